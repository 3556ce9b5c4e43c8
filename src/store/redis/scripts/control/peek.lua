-- What waits in a queue. ARGV: subscriber, position, how many at most, 'behind' the position or from what stands 'at' it.
-- Returns { how many of them are in the batch that was given out, entries… }; nil if there is no such subscriber.

local token, list = ARGV[1], P .. 'queue:' .. ARGV[1]
local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'queue', 'head', 'batch_last')
if not s[1] then return false end
local from = count_to(list, tonumber(ARGV[2]))
if ARGV[4] == 'at' then from = math.max(0, from - 1) end
local reply = { 0 }
if s[3] then reply[1] = math.max(0, tonumber(s[3]) - tonumber(s[2]) + 1 - from) end
for _, entry in ipairs(redis.call('LRANGE', list, from, from + tonumber(ARGV[3]) - 1)) do
  reply[#reply + 1] = entry
end
return reply
