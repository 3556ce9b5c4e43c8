-- Makes a call due at once. ARGV: client, id, origin of the wake-up. Returns 1, or 0 if it is unknown, done, or
-- on its way.

local member = member_of(ARGV[1], ARGV[2])
local c = redis.call('HMGET', call_key(member), 'destination', 'over', 'leased')
if not c[1] or c[2] == 'done' or c[3] then return 0 end
redis.call('HDEL', call_key(member), 'over')
redis.call('ZREM', P .. 'calls_dead', member)
wait_until(member, c[1], now_ms())
reschedule(c[1])
redis.pcall('PUBLISH', P .. 'call_wake', ARGV[3] .. ':0')
return 1
