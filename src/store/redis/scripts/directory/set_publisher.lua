-- Gives a topic to another publisher. ARGV: topic, publisher. Returns 1, or 0 if there is no such topic.

local before = redis.call('HGET', P .. 'topics', ARGV[1])
if not before then return 0 end
forget_maker(ARGV[1])
if before ~= '' then count_topic(before, -1) end
redis.call('HSET', P .. 'topics', ARGV[1], ARGV[2])
count_topic(ARGV[2], 1)
return 1
