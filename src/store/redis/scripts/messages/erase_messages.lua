-- Takes messages away; what is on its way is not repeated. ARGV: their numbers. Returns for each 1, or 0 if it was not
-- there.

local reply = {}
for _, message in ipairs(ARGV) do
  for _, delivery in ipairs(deliveries_of(message)) do
    local member, destination = delivery_of(delivery[1]), destination_of(delivery[2])
    if redis.call('HGET', call_key(member), 'leased') then
      redis.call('HSET', call_key(member), 'cancelled', 1)
    else
      redis.call('ZREM', waiting_key(destination), member)
      forget(member)
      reschedule(destination)
    end
  end
  reply[#reply + 1] = drop_message(message) and 1 or 0
end
return reply
