-- How many more calls may be on their way to a destination; shared by all scripts that look for due ones.

-- What is kept of the publisher that a destination is: nil if it is none.
local function publisher_of(destination)
  local id = string.match(destination, '^publisher:(%d+)$')
  return id and (redis.call('HGET', P .. 'message_publishers', id) or '')
end

-- How many deliveries of a publisher may be on their way.
local function publisher_places(kept, per_publisher)
  local target, rest = string.match(kept, '^[^\n]*\n([^\n]*)\n[^\n]*\n(.*)$')
  if not target then return 0 end
  local terms = cjson.decode(rest)
  if not terms.active then return 0 end
  if not string.match(target, '^%d+ pubsub ') then return per_publisher end
  return per_publisher * math.max(1, terms.chunk_size)
end

-- What tells how many places a destination has left, where so many may be on their way to one, while its last one has
-- failed, and in requests to a publisher.
local function places_of(in_flight, probes, per_publisher)
  return function(destination)
    local d = redis.call('HMGET', destination_key(destination), 'in_flight', 'failures')
    local publisher = publisher_of(destination)
    local places = publisher and publisher_places(publisher, per_publisher) or in_flight
    if (number(d[2]) or 0) > 0 then places = math.min(places, probes) end
    return places - (number(d[1]) or 0)
  end
end
