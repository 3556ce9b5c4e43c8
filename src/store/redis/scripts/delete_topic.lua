-- Deletes a topic in the home lane. ARGV: topic, its owner or '' for anybody's.
-- Returns 'done', 'unknown' or 'owned'.

local topic, owner = ARGV[1], ARGV[2]
local publisher = redis.call('HGET', P .. 'topics', topic)
if publisher and owner ~= '' and owner ~= publisher then return 'owned' end
forget_topic(topic)
redis.call('HDEL', P .. 'events', topic)
return redis.call('HDEL', P .. 'topics', topic) > 0 and 'done' or 'unknown'
