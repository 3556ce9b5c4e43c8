-- What a lane knows of a topic's subscribers; shared by what takes one out.

-- When the topic was made that was subscribed to; 0 is when nobody took note of that.
local function subscribed_birth(settings)
  return tonumber(string.match(settings, '^%d+:%d+:(%d+)$') or 0)
end

local function forget_subscribed(topic, token)
  redis.call('HDEL', P .. 'topic:' .. topic, token)
  return redis.call('SREM', P .. 'topics_of:' .. token, topic)
end
