-- Forgets what is older, or more, than its topic keeps. ARGV: how many events of a topic at most. Returns 1 if there is
-- more, or 0.

local now, more = now_ms(), 0
local bytes_of = redis.call('HGETALL', P .. 'kept_bytes')
for i = 1, #bytes_of, 2 do
  local topic, bytes = bytes_of[i], tonumber(bytes_of[i + 1])
  local keep_ms, keep_bytes = string.match(redis.call('HGET', P .. 'keeps', topic) or '0 0', '^(%d+) (%d+)$')
  local list = P .. 'kept:' .. topic
  local excess, oldest = bytes - tonumber(keep_bytes), now - tonumber(keep_ms)
  local n, gone = 0, 0
  for _, entry in ipairs(redis.call('LRANGE', list, 0, ARGV[1] - 1)) do
    if gone >= excess and tonumber(string.sub(entry, 1, STAMP)) >= oldest then break end
    n, gone = n + 1, gone + #entry + KEPT_OVERHEAD
  end
  if n > 0 then redis.call('LTRIM', list, n, -1) end
  if n == tonumber(ARGV[1]) then more = 1 end
  if redis.call('LLEN', list) == 0 then
    redis.call('HDEL', P .. 'kept_bytes', topic)
  elseif n > 0 then
    redis.call('HINCRBY', P .. 'kept_bytes', topic, -gone)
  end
end
return more
