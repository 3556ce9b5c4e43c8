-- Calls before a position, the newest first. ARGV: the position, how many at most. Returns their statuses.

local reply = {}
for _, member in ipairs(redis.call('ZREVRANGEBYSCORE', CALLS, '(' .. ARGV[1], '-inf', 'LIMIT', 0, ARGV[2])) do
  reply[#reply + 1] = status_of(member)
end
return reply
