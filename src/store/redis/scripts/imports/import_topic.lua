-- Brings a topic of another bus in. ARGV: topic, its publisher or '', events received there.
-- Returns { 1 if it was not there before, its publisher from now on or '' }.

local topic, publisher, events = ARGV[1], ARGV[2], tonumber(ARGV[3])
local created = 1 - redis.call('HEXISTS', P .. 'topics', topic)
local owner = claim_topic(topic, publisher)
if events > tonumber(redis.call('HGET', P .. 'events', topic) or 0) then
  redis.call('HSET', P .. 'events', topic, ARGV[3])
end
return { created, owner }
