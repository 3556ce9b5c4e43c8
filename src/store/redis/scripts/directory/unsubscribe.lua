-- Removes a subscriber with its queue. ARGV: subscriber. Returns 1, or 0 if there was none.

local token = ARGV[1]
for _, topic in ipairs(redis.call('SMEMBERS', P .. 'topics_of:' .. token)) do
  redis.call('HDEL', P .. 'topic:' .. topic, token)
end
redis.call('ZREM', DUE, token)
redis.call('ZREM', P .. 'pulls_out', token)
redis.call('SREM', P .. 'limited', token)
forget_aside(token)
redis.call('UNLINK', P .. 'topics_of:' .. token, P .. 'queue:' .. token, P .. 'subscriber:' .. token,
  P .. 'imported:' .. token)
return redis.call('SREM', P .. 'subscribers', token)
