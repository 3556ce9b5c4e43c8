-- Takes a topic out of a subscription. ARGV: subscriber, topic, '' or the birth of the topic that it is
-- to be taken out as. Returns 1, or 0 if it was not in it.

local token, topic = ARGV[1], ARGV[2]
if ARGV[3] ~= '' then
  local settings = redis.call('HGET', P .. 'topic:' .. topic, token)
  if not settings or subscribed_birth(settings) ~= tonumber(ARGV[3]) then return 0 end
end
return forget_subscribed(topic, token)
