-- Adds a token, or changes what is known of one. ARGV: token, what is known of it.

return redis.call('HSET', P .. 'api_tokens', ARGV[1], ARGV[2])
