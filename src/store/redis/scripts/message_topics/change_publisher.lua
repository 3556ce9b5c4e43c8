-- Changes a publisher, if it still is what the caller has seen. ARGV: id, what was kept of it, owner, topic with kind
-- and target as they are to be, the other texts that are kept of it, origin of the wake-up.
-- Returns 'changed', 'taken' or 'other'.

local kept = redis.call('HGET', PUBLISHERS, ARGV[1])
if kept ~= ARGV[2] then return 'other' end
local _, target = first_lines(kept)
local holder = redis.call('HGET', TARGETS, ARGV[4])
if holder and holder ~= ARGV[1] then return 'taken' end
redis.call('HDEL', TARGETS, target)
redis.call('HSET', TARGETS, ARGV[4], ARGV[1])
redis.call('HSET', PUBLISHERS, ARGV[1], table.concat({ ARGV[3], ARGV[4], ARGV[5] }, '\n'))
-- What it has held back may go out now.
reschedule('publisher:' .. ARGV[1])
redis.pcall('PUBLISH', P .. 'call_wake', ARGV[6] .. ':0')
return 'changed'
