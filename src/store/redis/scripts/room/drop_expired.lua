-- Drops what subscribers do not want any more.
--
-- ARGV: items at most, overhead of an item in bytes. Returns { { subscriber, items, bytes }… }.

local CHUNK = 256

local room, overhead = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = now_ms()

-- How many of the items from an offset on are to go, and their bytes. It looks at one first, and
-- at more only if that one is to go: mostly, nothing is.
local function expired(list, flying, excess, before)
  local n, bytes, look_at = 0, 0, 1
  while n < room and (before or n < excess) do
    local from = flying + n
    local chunk = redis.call('LRANGE', list, from, from + math.min(look_at, room - n) - 1)
    if #chunk == 0 then break end
    for _, entry in ipairs(chunk) do
      local too_old = before and tonumber(string.sub(entry, 1, STAMP)) < before
      if n >= excess and not too_old then return n, bytes end
      n, bytes = n + 1, bytes + #entry - HEAD + overhead
    end
    look_at = CHUNK
  end
  return n, bytes
end

-- Whoever has pulled a batch and does not come back has it no more.
for _, token in ipairs(redis.call('ZRANGEBYSCORE', P .. 'pulls_out', '-inf', text(now), 'LIMIT', 0, 1000)) do
  redis.call('ZREM', P .. 'pulls_out', token)
  redis.call('HDEL', P .. 'subscriber:' .. token, 'leased')
end

local reply = {}
for _, token in ipairs(redis.call('SMEMBERS', P .. 'limited')) do
  local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'retention', 'max_queued')
  local list, flying = P .. 'queue:' .. token, in_flight(token)
  local excess = 0
  if s[2] then excess = redis.call('LLEN', list) - flying - tonumber(s[2]) end
  local n, bytes = expired(list, flying, excess, s[1] and now - tonumber(s[1]))
  if n > 0 then
    drop(token, flying, n, 'expired', now)
    room = room - n
    reply[#reply + 1] = { token, n, bytes }
  end
end
return reply
