-- Records how attempts at calls ended.
--
-- ARGV: for each: client, id, fence, 'done', 'dead', 'returned' or milliseconds until it is made again, the
--       status of the answer or '', why it failed or ''.
-- Returns for each 1, or 0 if the lease was lost before.

local now = now_ms()

-- What attempts say of each destination, and of how many calls of each kind they change the state: counted here, and
-- noted once for all.
local destinations, kinds = {}, {}

local function note(destination, outcome)
  local d = destinations[destination] or { ended = 0, failures = 0 }
  destinations[destination] = d
  d.ended = d.ended + 1
  if outcome == 'done' then
    d.works, d.failures = true, 0
  elseif outcome ~= 'returned' then
    d.failures = d.failures + 1
  end
end

local function settle(member, fence, outcome, status, reason)
  local key = call_key(member)
  local c = redis.call('HMGET', key, 'fence', 'leased', 'destination', 'cancelled', 'kind', 'message')
  if c[1] ~= fence or not c[2] then return 0 end
  end_lease(member)
  note(c[3], outcome)
  if c[4] then
    forget(member)
  elseif outcome == 'returned' then
    redis.call('HINCRBY', key, 'attempts', -1)
    wait_until(member, c[3], now)
  elseif outcome == 'done' or outcome == 'dead' then
    redis.call('HSET', key, 'status', status, 'reason', reason, 'over', outcome)
    local over = kinds[c[5]] or { done = 0, dead = 0 }
    kinds[c[5]] = over
    over[outcome] = over[outcome] + 1
    if c[6] then
      -- It stays as long as its message.
      redis.call('HSET', key, 'ended', text(now))
      count_open(c[6], -1)
    else
      redis.call('ZADD', P .. 'calls_' .. outcome, text(now), member)
    end
  else
    redis.call('HSET', key, 'status', status, 'reason', reason)
    wait_until(member, c[3], now + tonumber(outcome))
  end
  return 1
end

local reply = {}
for i = 1, #ARGV, 6 do
  local member = member_of(ARGV[i], ARGV[i + 1])
  reply[#reply + 1] = settle(member, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
end
for kind, over in pairs(kinds) do
  count_state(kind, nil, -over.done - over.dead)
  count_state(kind, 'dead', over.dead)
end
for name, d in pairs(destinations) do
  free_up(name, d.ended)
  if d.works then redis.call('HDEL', destination_key(name), 'failures') end
  if d.failures > 0 then redis.call('HINCRBY', destination_key(name), 'failures', d.failures) end
  reschedule(name)
end
return reply
