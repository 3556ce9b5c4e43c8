-- Pauses a queue, unless it is paused. ARGV: subscriber, by whom. Returns 1, or 0 if there is no such subscriber.

local token = ARGV[1]
local key = P .. 'subscriber:' .. token
local s = redis.call('HMGET', key, 'queue', 'paused', 'leased')
if not s[1] then return 0 end
if not s[2] then
  redis.call('HSET', key, 'paused', text(now_ms()) .. ' ' .. ARGV[2])
  if not s[3] then redis.call('ZREM', DUE, token) end
end
return 1
