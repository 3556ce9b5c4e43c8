-- Adds a token, or renames it. ARGV: token, service name.

return redis.call('HSET', P .. 'api_tokens', ARGV[1], ARGV[2])
