-- Ends calls. ARGV: for each client, id. Returns for each 'gone', 'on its way' or 'unknown'.

local function cancel(member)
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
end

local reply = {}
for i = 1, #ARGV, 2 do reply[#reply + 1] = cancel(member_of(ARGV[i], ARGV[i + 1])) end
return reply
