-- Taking a topic out of a lane's subscriptions; shared by deleting it and by the other lanes' part of
-- that.

local function forget_topic(topic)
  for _, token in ipairs(redis.call('HKEYS', P .. 'topic:' .. topic)) do
    redis.call('SREM', P .. 'topics_of:' .. token, topic)
  end
  redis.call('UNLINK', P .. 'topic:' .. topic)
end
