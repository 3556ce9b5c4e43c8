-- Tries each command that any script uses, on keys that are gone afterwards, so that none is refused in
-- the middle of a script.
--
-- ARGV: a message that wakes nobody. Returns the commands that are refused.

local hash, list, set = P .. 'rights:hash', P .. 'rights:list', P .. 'rights:set'
local sorted, value, stream = P .. 'rights:sorted', P .. 'rights:value', P .. 'rights:stream'
local refused = {}

local function try(command, ...)
  local reply = redis.pcall(command, ...)
  if type(reply) == 'table' and reply.err then refused[#refused + 1] = command end
end

try('TIME')
try('HSET', hash, 'field', 1)
try('HGET', hash, 'field')
try('HMGET', hash, 'field')
try('HGETALL', hash)
try('HVALS', hash)
try('HKEYS', hash)
try('HEXISTS', hash, 'field')
try('HSTRLEN', hash, 'field')
try('HINCRBY', hash, 'field', 1)
try('HLEN', hash)
try('HDEL', hash, 'field')
try('RPUSH', list, 1)
try('LPUSH', list, 1)
try('LLEN', list)
try('LINDEX', list, 0)
try('LRANGE', list, 0, -1)
try('LTRIM', list, 0, -1)
try('MEMORY', 'USAGE', list)
try('XADD', stream, '*', 'field', 1)
try('XLEN', stream)
try('XREVRANGE', stream, '+', '-')
try('XDEL', stream, '1-1')
try('XTRIM', stream, 'MAXLEN', 1)
try('SADD', set, 1)
try('SMEMBERS', set)
try('SISMEMBER', set, 1)
try('SREM', set, 1)
try('ZADD', sorted, 1, 'member')
try('ZRANGE', sorted, 0, 0)
try('ZRANGEBYSCORE', sorted, 0, 1)
try('ZREVRANGEBYSCORE', sorted, 1, 0)
try('ZSCORE', sorted, 'member')
try('ZCARD', sorted)
try('ZCOUNT', sorted, 0, 1)
try('ZREM', sorted, 'member')
try('ZREMRANGEBYSCORE', sorted, 0, 0)
try('SET', value, 1)
try('GET', value)
try('MGET', value)
try('GETRANGE', value, 0, 0)
try('STRLEN', value)
try('EXISTS', value)
try('PEXPIRE', value, 1)
try('PTTL', value)
try('PUBLISH', P .. 'wake', ARGV[1])
try('UNLINK', hash, list)
try('DEL', set, sorted, value, hash, list, stream)
return refused
