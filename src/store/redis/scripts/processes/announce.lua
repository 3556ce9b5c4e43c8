-- Says that a process is there. ARGV: process, what it says of itself, for how many ms that holds, or 0 for
-- its farewell, how many are known at most. Returns 1 if it is to deliver nothing more.

local now = now_ms()
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', P .. 'present', '-inf', text(now))) do
  redis.call('ZREM', P .. 'present', gone)
  redis.call('HDEL', P .. 'processes', gone)
  redis.call('SREM', P .. 'draining', gone)
end
if ARGV[3] == '0' then
  redis.call('ZREM', P .. 'present', ARGV[1])
  redis.call('HDEL', P .. 'processes', ARGV[1])
  redis.call('SREM', P .. 'draining', ARGV[1])
elseif redis.call('HEXISTS', P .. 'processes', ARGV[1]) == 1
  or redis.call('HLEN', P .. 'processes') < tonumber(ARGV[4]) then
  redis.call('HSET', P .. 'processes', ARGV[1], ARGV[2])
  redis.call('ZADD', P .. 'present', text(now + tonumber(ARGV[3])), ARGV[1])
end
return redis.call('SISMEMBER', P .. 'draining', ARGV[1])
