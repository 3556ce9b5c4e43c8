-- Taking a topic out of a lane's subscriptions; shared by deleting it and by the other lanes' part of
-- that.

-- Those that came in for a topic of this name which was made after `ended` stay, unless it is nil.
local function forget_topic(topic, ended)
  local subscribed = redis.call('HGETALL', P .. 'topic:' .. topic)
  for i = 1, #subscribed, 2 do
    if not ended or subscribed_birth(subscribed[i + 1]) < ended then
      forget_subscribed(topic, subscribed[i])
    end
  end
end
