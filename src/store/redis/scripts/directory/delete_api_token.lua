-- Removes a token. ARGV: token.

return redis.call('HDEL', P .. 'api_tokens', ARGV[1])
