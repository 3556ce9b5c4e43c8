-- The first events of an entity that is set aside. ARGV: subscriber, entity, how many at most. Returns entries.

return redis.call('LRANGE', aside_list(ARGV[1], ARGV[2]), 0, tonumber(ARGV[3]) - 1)
