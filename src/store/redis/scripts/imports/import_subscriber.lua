-- Brings a subscriber of another bus in.
--
-- ARGV: subscriber, name for its queue, callback, uuid, 1 if there is a uuid, timeout, max, health,
--       topics, each with its birth, or '' if that plays no part…
-- Returns 1, or 0 if it is there: it then stays as it is.

local token, timeout, max = ARGV[1], ARGV[6], ARGV[7]
local key = P .. 'subscriber:' .. token
local queue = redis.call('HGET', key, 'queue')
-- With this very queue, it is this call that was sent again.
if queue then return queue == ARGV[2] and 1 or 0 end

redis.call('HSET', key, 'queue', ARGV[2], 'callback', ARGV[3], 'timeout', timeout, 'max', max,
  'health', ARGV[8], 'sent', 0, 'head', 1, 'fence', 0)
if ARGV[5] == '1' then redis.call('HSET', key, 'uuid', ARGV[4]) end
redis.call('SADD', P .. 'subscribers', token)
for i = 9, #ARGV, 2 do
  put_subscribed(ARGV[i], token, max, timeout, ARGV[i + 1])
end
return 1
