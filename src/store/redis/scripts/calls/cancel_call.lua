-- Ends a call. ARGV: client, id. Returns 'gone', 'on its way' or 'unknown'.

local member = member_of(ARGV[1], ARGV[2])
local c = redis.call('HMGET', call_key(member), 'destination', 'leased')
if not c[1] then return 'unknown' end
if c[2] then
  redis.call('HSET', call_key(member), 'cancelled', 1)
  return 'on its way'
end
redis.call('ZREM', waiting_key(c[1]), member)
forget(member)
reschedule(c[1])
return 'gone'
