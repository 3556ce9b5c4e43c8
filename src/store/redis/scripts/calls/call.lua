-- What calls and their destinations have in common; shared by all scripts about calls.

-- A call's name in sets: no token has a slash.
local function member_of(client, id) return client .. '/' .. id end

local function call_key(member) return P .. 'call:' .. member end
local function waiting_key(destination) return P .. 'calls_waiting:' .. destination end
local function destination_key(destination) return P .. 'destination:' .. destination end

local DESTINATIONS, CALLS_LEASED = P .. 'destinations_due', P .. 'calls_leased'

-- Works out when a destination's next call is due, and forgets one that has none.
local function reschedule(destination)
  local first = redis.call('ZRANGE', waiting_key(destination), 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', DESTINATIONS, first[2], destination)
    return
  end
  redis.call('ZREM', DESTINATIONS, destination)
  if (number(redis.call('HGET', destination_key(destination), 'in_flight')) or 0) <= 0 then
    redis.call('DEL', destination_key(destination))
  end
end

local function wait_until(member, destination, due)
  redis.call('ZADD', waiting_key(destination), text(due), member)
end

-- Ends a lease. `says` is what the attempt says of the destination: 'works', 'fails', or '' for nothing.
local function release(member, destination, says)
  redis.call('ZREM', CALLS_LEASED, member)
  redis.call('HDEL', call_key(member), 'leased')
  local key = destination_key(destination)
  if redis.call('HINCRBY', key, 'in_flight', -1) < 0 then redis.call('HSET', key, 'in_flight', 0) end
  if says == 'works' then redis.call('HDEL', key, 'failures') end
  if says == 'fails' then redis.call('HINCRBY', key, 'failures', 1) end
end

-- Takes a call away with all that is known of it.
local function forget(member)
  redis.call('ZREM', P .. 'calls_done', member)
  redis.call('ZREM', P .. 'calls_dead', member)
  local content = redis.call('HSTRLEN', call_key(member), 'content')
  if redis.call('DEL', call_key(member)) == 1 then
    redis.call('HINCRBY', P .. 'call_room', 'calls', -1)
    redis.call('HINCRBY', P .. 'call_room', 'bytes', -content)
  end
end
