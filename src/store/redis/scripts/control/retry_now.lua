-- Makes what waits due at once. ARGV: subscriber, origin of the wake-up.
-- Returns 'due', 'nothing', 'paused' or 'unknown'.

local token = ARGV[1]
local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'queue', 'paused', 'leased', 'callback', 'aside')
if not s[1] then return 'unknown' end
if s[2] then return 'paused' end
if s[3] or s[4] == 'pull:' or (redis.call('LLEN', P .. 'queue:' .. token) == 0 and (number(s[5]) or 0) == 0) then
  return 'nothing'
end
local entities = P .. 'entities:' .. token
local states = redis.call('HGETALL', entities)
for i = 1, #states, 2 do
  redis.call('HSET', entities, states[i], text(now_ms()) .. string.match(states[i + 1], ' %d+$'))
end
redis.call('ZADD', DUE, text(now_ms()), token)
redis.pcall('PUBLISH', P .. 'wake', ARGV[2] .. ':0')
return 'due'
