-- Ends a pause. ARGV: subscriber, origin of the wake-up. Returns 1, or 0 if there is no such subscriber.

local token = ARGV[1]
local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'queue', 'paused')
if not s[1] then return 0 end
if s[2] then
  let_go(token, now_ms())
  redis.pcall('PUBLISH', P .. 'wake', ARGV[2] .. ':0')
  redis.pcall('PUBLISH', P .. 'arrivals', ARGV[2] .. ' ' .. token)
end
return 1
