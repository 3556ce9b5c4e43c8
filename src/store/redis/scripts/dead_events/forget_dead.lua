-- Forgets dead letters that are too old, and the oldest as long as all take too much room.
--
-- ARGV: how old in ms, bytes at most, how many at once. Returns { how many were too old, how many went for room }.

local function forget(dead)
  for _, one in ipairs(dead) do dig_out(one) end
  return #dead
end

local old = forget(redis.call('ZRANGEBYSCORE', P .. 'dead_events', '-inf', text(now_ms() - tonumber(ARGV[1])),
  'LIMIT', 0, ARGV[3]))
local for_room = 0
if (number(redis.call('HGET', P .. 'dead_room', 'bytes')) or 0) > tonumber(ARGV[2]) then
  for_room = forget(redis.call('ZRANGE', P .. 'dead_events', 0, ARGV[3] - 1))
end
return { old, for_room }
