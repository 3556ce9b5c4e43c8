-- Brings a topic of another bus in. ARGV: topic, its publisher or '', events received there.
-- Returns { 1 if it was not there before, its publisher from now on or '' }.

local topic, publisher, events = ARGV[1], ARGV[2], tonumber(ARGV[3])
local owner = redis.call('HGET', P .. 'topics', topic)
local created = owner and 0 or 1
if not owner or owner == '' then
  if owner then redis.call('HSET', P .. 'topics', topic, publisher)
  else make_topic(topic, publisher) end
  owner = publisher
end
if events > tonumber(redis.call('HGET', P .. 'events', topic) or 0) then
  redis.call('HSET', P .. 'events', topic, ARGV[3])
end
return { created, owner }
