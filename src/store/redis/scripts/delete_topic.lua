-- Deletes a topic in the home lane. ARGV: topic, its owner or '' for anybody's.
-- Returns { 'done', 'unknown' or 'owned', the birth of the youngest topic that there ever was }.

local topic, owner = ARGV[1], ARGV[2]
local youngest = redis.call('GET', P .. 'last_birth') or '0'
local publisher = redis.call('HGET', P .. 'topics', topic)
if publisher and owner ~= '' and owner ~= publisher then return { 'owned', youngest } end
forget_topic(topic)
redis.call('HDEL', P .. 'events', topic)
redis.call('HDEL', P .. 'births', topic)
local deleted = redis.call('HDEL', P .. 'topics', topic)
return { deleted > 0 and 'done' or 'unknown', youngest }
