-- Records how attempts at calls ended.
--
-- ARGV: for each: client, id, fence, 'done', 'dead', 'returned' or milliseconds until it is made again, the
--       status of the answer or '', why it failed or ''.
-- Returns for each 1, or 0 if the lease was lost before.

local now = now_ms()

local function settle(member, fence, outcome, status, reason)
  local key = call_key(member)
  local c = redis.call('HMGET', key, 'fence', 'leased', 'destination', 'cancelled', 'kind')
  if c[1] ~= fence or not c[2] then return 0 end
  local says = outcome == 'done' and 'works' or outcome == 'returned' and '' or 'fails'
  release(member, c[3], says)
  if c[4] then
    forget(member)
  elseif outcome == 'returned' then
    redis.call('HINCRBY', key, 'attempts', -1)
    wait_until(member, c[3], now)
  else
    redis.call('HSET', key, 'status', status, 'reason', reason)
    if outcome == 'done' or outcome == 'dead' then
      redis.call('HSET', key, 'over', outcome)
      count_state(c[5], nil, -1)
      count_state(c[5], outcome, 1)
      redis.call('ZADD', P .. 'calls_' .. outcome, text(now), member)
    else
      wait_until(member, c[3], now + tonumber(outcome))
    end
  end
  reschedule(c[3])
  return 1
end

local reply = {}
for i = 1, #ARGV, 6 do
  local member = member_of(ARGV[i], ARGV[i + 1])
  reply[#reply + 1] = settle(member, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
end
return reply
