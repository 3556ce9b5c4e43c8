-- How many calls are due at destinations that have a place for them. ARGV: within how many ms, how many may be on their
-- way to one destination, how many while its last one has failed, how many requests to a message publisher, how many are
-- counted at most.

local until_ms, at_most = text(now_ms() + tonumber(ARGV[1])), tonumber(ARGV[5])
local free_places = places_of(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
local due = 0
for _, destination in ipairs(redis.call('ZRANGEBYSCORE', DESTINATIONS, '-inf', until_ms)) do
  if due >= at_most then break end
  if free_places(destination) > 0 then
    due = due + redis.call('ZCOUNT', waiting_key(destination), '-inf', until_ms)
  end
end
return math.min(due, at_most)
