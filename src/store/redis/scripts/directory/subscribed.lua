-- What a lane knows of a topic's subscribers; shared by what puts one in and what takes one out.

-- `birth` is the topic's, or '' if that plays no part. A `max` of 0 says that the subscriber asks for its batches.
local function put_subscribed(topic, token, max, timeout, birth)
  local settings = max .. ':' .. timeout .. (birth ~= '' and ':' .. birth or '')
  redis.call('HSET', P .. 'topic:' .. topic, token, settings)
  redis.call('SADD', P .. 'topics_of:' .. token, topic)
end

-- When the topic was made that was subscribed to; 0 is when nobody took note of that.
local function subscribed_birth(settings)
  return tonumber(string.match(settings, '^%d+:%d+:(%d+)$') or 0)
end

local function forget_subscribed(topic, token)
  redis.call('HDEL', P .. 'topic:' .. topic, token)
  return redis.call('SREM', P .. 'topics_of:' .. token, topic)
end
