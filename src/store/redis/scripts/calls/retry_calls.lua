-- Makes calls due at once. ARGV: origin of the wake-up, then for each client, id. Returns for each 1, or 0 if it is
-- unknown, done, on its way, or of a publisher
-- that is gone.

local function retry(member)
  local c = redis.call('HMGET', call_key(member), 'destination', 'over', 'leased', 'kind', 'message')
  if not c[1] or c[2] == 'done' or c[3] then return 0 end
  local publisher = string.match(c[1], '^publisher:(%d+)$')
  if publisher and redis.call('HEXISTS', P .. 'message_publishers', publisher) == 0 then return 0 end
  if c[2] then
    count_state(c[4], c[2], -1)
    count_state(c[4], nil, 1)
    redis.call('HDEL', call_key(member), 'over', 'ended')
    if c[5] then count_open(c[5], 1) end
    redis.call('ZREM', P .. 'calls_dead', member)
  end
  wait_until(member, c[1], now_ms())
  reschedule(c[1])
  return 1
end

local reply, any = {}, false
for i = 2, #ARGV, 2 do
  reply[#reply + 1] = retry(member_of(ARGV[i], ARGV[i + 1]))
  any = any or reply[#reply] == 1
end
if any then redis.pcall('PUBLISH', P .. 'call_wake', ARGV[1] .. ':0') end
return reply
