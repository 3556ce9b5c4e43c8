-- Discards what waits for publishers that are gone. ARGV: how many at most. Returns how many.

local at_most, discarded = tonumber(ARGV[1]), 0
for _, publisher in ipairs(redis.call('SMEMBERS', P .. 'message_discards')) do
  if discarded >= at_most then break end
  local destination = destination_of(publisher)
  local waiting = redis.call('ZRANGE', waiting_key(destination), 0, at_most - discarded - 1)
  for _, member in ipairs(waiting) do
    redis.call('ZREM', waiting_key(destination), member)
    forget(member)
  end
  discarded = discarded + #waiting
  reschedule(destination)
  if discarded < at_most then
    for _, member in ipairs(redis.call('ZRANGE', CALLS_LEASED, 0, -1)) do
      if redis.call('HGET', call_key(member), 'destination') == destination then
        redis.call('HSET', call_key(member), 'cancelled', 1)
      end
    end
    redis.call('SREM', P .. 'message_discards', publisher)
  end
end
return discarded
