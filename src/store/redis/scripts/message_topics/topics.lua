-- What message topics and publishers have in common; shared by all scripts about them.

local TOPICS, TOPIC_NAMES = P .. 'message_topics', P .. 'message_topic_names'
local PUBLISHERS, TARGETS = P .. 'message_publishers', P .. 'message_targets'
-- The last ids that were given, and how many of each a client has.
local IDS, COUNTS = P .. 'message_ids', P .. 'message_counts'

-- Counts one more for a client, unless it has `max`.
local function has_room(owner, what, max)
  return (number(redis.call('HGET', COUNTS, owner .. ' ' .. what)) or 0) < tonumber(max)
end

local function count_for(owner, what, more)
  local field = owner .. ' ' .. what
  if redis.call('HINCRBY', COUNTS, field, more) <= 0 then redis.call('HDEL', COUNTS, field) end
end

-- What is kept is several texts, with a line for each but the last one.
local function first_lines(kept) return string.match(kept, '^([^\n]*)\n([^\n]*)\n') end

local function remove_publisher(id)
  local kept = redis.call('HGET', PUBLISHERS, id)
  if not kept then return false end
  local owner, target = first_lines(kept)
  redis.call('HDEL', PUBLISHERS, id)
  redis.call('HDEL', TARGETS, target)
  count_for(owner, 'publishers', -1)
  redis.call('HDEL', P .. 'message_forwarders:' .. string.match(target, '^%d+'), id)
  redis.call('HDEL', P .. 'messages_behind', id)
  redis.call('SADD', P .. 'message_discards', id)
  return true
end
