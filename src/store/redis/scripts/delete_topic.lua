-- Deletes a topic. ARGV: topic, its owner or '' for anybody's.
-- Returns 'done', 'unknown' or 'owned'.

local topic, owner = ARGV[1], ARGV[2]
local publisher = redis.call('HGET', P .. 'topics', topic)
if not publisher then return 'unknown' end
if owner ~= '' and owner ~= publisher then return 'owned' end
for _, token in ipairs(redis.call('HKEYS', P .. 'topic:' .. topic)) do
  redis.call('SREM', P .. 'topics_of:' .. token, topic)
end
redis.call('HDEL', P .. 'topics', topic)
redis.call('HDEL', P .. 'events', topic)
redis.call('UNLINK', P .. 'topic:' .. topic)
return 'done'
