-- Forgets calls that were over long ago. ARGV: how long done ones are kept in ms, dead ones, how many at most.
-- Returns how many.

local now, forgotten, at_once = now_ms(), 0, tonumber(ARGV[3])
for i, over in ipairs({ 'done', 'dead' }) do
  local before = text(now - tonumber(ARGV[i]))
  local old = redis.call('ZRANGEBYSCORE', P .. 'calls_' .. over, '-inf', before, 'LIMIT', 0,
    at_once - forgotten)
  for _, member in ipairs(old) do forget(member) end
  forgotten = forgotten + #old
end
return forgotten
