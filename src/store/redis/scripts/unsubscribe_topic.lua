-- Takes a topic out of a subscription. ARGV: subscriber, topic. Returns 1, or 0 if it was not in it.

redis.call('HDEL', P .. 'topic:' .. ARGV[2], ARGV[1])
return redis.call('SREM', P .. 'topics_of:' .. ARGV[1], ARGV[2])
