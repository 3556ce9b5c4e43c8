-- Tells what could be dropped of each queue: all behind what is in flight.
--
-- ARGV: overhead of an item in bytes. Returns { { subscriber, items, bytes }… }.

-- Of a long list, so many of its nodes (of 8 KiB) are looked at.
local NODES = 100
-- What Redis has of its own in a list for each entry, about.
local LIST_OVERHEAD = 2

local overhead = tonumber(ARGV[1])

local reply = {}
for _, token in ipairs(redis.call('SMEMBERS', P .. 'subscribers')) do
  local list = P .. 'queue:' .. token
  local all = redis.call('LLEN', list)
  local waiting = all > 0 and all - in_flight(token) or 0
  if waiting > 0 then
    local bytes = redis.call('MEMORY', 'USAGE', list, 'SAMPLES', NODES)
    -- As dropping counts them.
    bytes = math.floor(bytes * waiting / all) + waiting * (overhead - STAMP - LIST_OVERHEAD)
    reply[#reply + 1] = { token, waiting, bytes }
  end
end
return reply
