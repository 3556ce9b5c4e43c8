-- Deletes a topic in the home lane. ARGV: topic, its owner or '' for anybody's.
-- Returns { 'done', 'unknown' or 'owned', the end of all topics of that name until now }.

local topic, owner = ARGV[1], ARGV[2]
local publisher = redis.call('HGET', P .. 'topics', topic)
if publisher and owner ~= '' and owner ~= publisher then return { 'owned', '0' } end
local ended = next_birth()
if not publisher then return { 'unknown', ended } end
forget_topic(topic)
redis.call('HDEL', P .. 'events', topic)
redis.call('HDEL', P .. 'births', topic)
redis.call('HDEL', P .. 'topics', topic)
redis.call('HDEL', P .. 'keeps', topic)
redis.call('HDEL', P .. 'kept_bytes', topic)
redis.call('UNLINK', P .. 'kept:' .. topic)
forget_maker(topic)
if publisher ~= '' then count_topic(publisher, -1) end
redis.call('SET', P .. 'deleted:' .. topic, ended, 'PX', DELETED_TTL_MS)
return { 'done', ended }
