-- Says what a client's calls are signed with. ARGV: client, secrets or ''.

if ARGV[2] == '' then return redis.call('HDEL', P .. 'client_secrets', ARGV[1]) end
return redis.call('HSET', P .. 'client_secrets', ARGV[1], ARGV[2])
