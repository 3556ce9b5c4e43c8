-- Leases calls that are due: of destinations that are due, each gets one before any gets two.
--
-- ARGV: how many at most, how many may be on their way to one destination, how many while its last one has
--       failed, length of a lease in ms, how many leases are ended and destinations looked at, at most,
--       claimer, number of the claim, number of the claimer's last claim that was answered, ms by which the
--       clock may be set back without anything being done about it, how many requests may be on their way to a
--       message publisher, how many bytes of contents are leased at most, beyond the first.
-- Returns { milliseconds until the next one is due, or -1, { client, id, fence, kind, destination, title, content,
-- attempt, age in ms, what is kept of the publisher, or '' }… }.

local limit, in_flight, probes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local length, at_once = tonumber(ARGV[4]), ARGV[5]
local max_bytes = tonumber(ARGV[11])
local free_places = places_of(in_flight, probes, tonumber(ARGV[10]))
local now = now_ms()

local function give_back(member)
  local c = redis.call('HMGET', call_key(member), 'destination', 'cancelled')
  if not c[1] then
    redis.call('ZREM', CALLS_LEASED, member)
    return
  end
  end_lease(member)
  free_up(c[1], 1)
  if c[2] then forget(member) else wait_until(member, c[1], now) end
  reschedule(c[1])
end

-- A claimer that got no answer has leases that it does not know of; they end with its next claim.
local claims = P .. 'calls_claim:' .. ARGV[6]
local this, answered = tonumber(ARGV[7]), tonumber(ARGV[8])
local earlier, leases = string.match(redis.call('GET', claims) or '', '^(%d+)(.*)$')
if earlier and tonumber(earlier) >= this then return { -1 } end
if earlier and tonumber(earlier) > answered then
  for member, fence in string.gmatch(leases, ' (%S+) (%S+)') do
    local c = redis.call('HMGET', call_key(member), 'fence', 'leased')
    if c[1] == fence and c[2] then
      redis.call('HINCRBY', call_key(member), 'attempts', -1)
      give_back(member)
    end
  end
end

local function set_back(set, last, by)
  local members = redis.call('ZRANGEBYSCORE', set, '-inf', last, 'WITHSCORES')
  for i = 1, #members, 2 do
    redis.call('ZADD', set, text(tonumber(members[i + 1]) - by), members[i])
  end
end

-- A clock that was set back must not hold up what was due before, nor a pause after an attempt, nor let leases last. What
-- was not due yet waits longer: its time may be one that its caller has named.
local function follow_clock(step)
  local seen = tonumber(redis.call('GET', P .. 'call_clock') or 0)
  if now < seen - step then
    local destinations = {}
    for _, member in ipairs(redis.call('ZRANGE', CALLS_LEASED, 0, -1)) do
      local destination = redis.call('HGET', call_key(member), 'destination')
      if destination then destinations[destination] = true end
    end
    for _, name in ipairs(redis.call('ZRANGE', DESTINATIONS, 0, -1)) do destinations[name] = true end
    set_back(CALLS_LEASED, '+inf', seen - now)
    for name in pairs(destinations) do
      -- The time is noted in steps, by claims that come every second.
      local waiting, last = waiting_key(name), text(seen + 2 * step)
      set_back(waiting, last, seen - now)
      local later = redis.call('ZRANGEBYSCORE', waiting, '(' .. last, '+inf', 'WITHSCORES')
      for i = 1, #later, 2 do
        local attempts = tonumber(redis.call('HGET', call_key(later[i]), 'attempts') or 0)
        if attempts > 0 then redis.call('ZADD', waiting, text(tonumber(later[i + 1]) + now - seen), later[i]) end
      end
      reschedule(name)
    end
  end
  if math.abs(now - seen) > step then redis.call('SET', P .. 'call_clock', text(now)) end
end
follow_clock(tonumber(ARGV[9]))

for _, member in ipairs(redis.call('ZRANGEBYSCORE', CALLS_LEASED, '-inf', text(now), 'LIMIT', 0, at_once)) do
  give_back(member)
end

-- Each destination's calls that are due, as many as it has places for.
local queues = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', DESTINATIONS, '-inf', text(now), 'LIMIT', 0, at_once)) do
  local free = free_places(name)
  if free > 0 then
    local due = redis.call('ZRANGEBYSCORE', waiting_key(name), '-inf', text(now), 'LIMIT', 0,
      math.min(free, limit))
    queues[#queues + 1] = { name = name, due = due, publisher = publisher_of(name) }
  else
    -- Out of the way of others until one of its calls ends, which puts it back.
    redis.call('ZREM', DESTINATIONS, name)
  end
end

local function lease(member, destination, publisher)
  local key = call_key(member)
  local c = redis.call('HMGET', key, 'kind', 'accepted', 'fence', 'own', 'shared', 'attempts', 'message')
  redis.call('ZREM', waiting_key(destination), member)
  if not c[1] then return nil end
  -- From the clock, so that it is not given out again by a server that lost its last changes.
  local fence = text(math.max((number(c[3]) or 0) + 1, now_us()))
  local attempt = (number(c[6]) or 0) + 1
  redis.call('HSET', key, 'attempts', attempt, 'fence', fence, 'leased', 1)
  redis.call('ZADD', CALLS_LEASED, text(now + length), member)
  local age = math.max(0, now - tonumber(c[2]))
  local client, id = names_of(member)
  return { client, id, fence, c[1], destination, title_of(member, c[4], c[5]), content_of(member, c[4], c[7]),
    attempt, age, publisher or '' }
end

local reply, given, bytes = { -1 }, {}, 0
local rank, goes_on = 1, true
while goes_on and #reply <= limit do
  goes_on = false
  for _, queue in ipairs(queues) do
    local member = queue.due[rank]
    if member and #reply <= limit and bytes <= max_bytes then
      goes_on = true
      local leased = lease(member, queue.name, queue.publisher)
      if leased then
        bytes = bytes + #leased[7]
        queue.given = (queue.given or 0) + 1
        reply[#reply + 1] = leased
        given[#given + 1] = ' ' .. member .. ' ' .. leased[3]
      end
    end
  end
  rank = rank + 1
end
for _, queue in ipairs(queues) do
  if queue.given then
    redis.call('HINCRBY', destination_key(queue.name), 'in_flight', queue.given)
  end
  reschedule(queue.name)
end
if #given > 0 then
  redis.call('SET', claims, ARGV[7] .. table.concat(given), 'PX', length)
end

-- The next one that has a place: of the destinations that are due and have none, it is known when they do.
local next_at = number(redis.call('ZRANGE', CALLS_LEASED, 0, 0, 'WITHSCORES')[2])
local due = redis.call('ZRANGEBYSCORE', DESTINATIONS, '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, at_once)
for i = 1, #due, 2 do
  if free_places(due[i]) > 0 then
    local at = tonumber(due[i + 1])
    if not next_at or at < next_at then next_at = at end
    break
  end
end
if next_at then reply[1] = text(math.max(0, next_at - now)) end
return reply
