-- Leases queues that are due, the longest due first, and gives out their batches.
--
-- ARGV: how many queues at most, length of a lease in ms, bytes of a batch at most, bytes after
--       which no further batch is given out, ms by which the clock may be set back without
--       anything being done about it, claimer, number of the claim, number of the claimer's last
--       claim that was answered.
-- Returns { milliseconds until the next queue is due, or -1, batches as give_out writes them… }.

-- A clock that was set back must not hold up deliveries for as long as it was set back by.
local function follow_clock(now, step)
  local seen = tonumber(redis.call('GET', P .. 'clock') or 0)
  if now < seen - step then
    local due = redis.call('ZRANGE', DUE, 0, -1, 'WITHSCORES')
    for i = 1, #due, 2 do
      redis.call('ZADD', DUE, text(tonumber(due[i + 1]) - (seen - now)), due[i])
    end
  end
  if math.abs(now - seen) > step then redis.call('SET', P .. 'clock', text(now)) end
end

-- A claimer that got no answer has leases that it does not know of; they end with its next claim. Its
-- claims come one after the other, but for a copy that was on its way while it gave up waiting.
local claims = P .. 'claim:' .. ARGV[6]

-- Ends the leases of an earlier claim whose answer was lost; false if this one is an old copy.
local function end_lost_leases(now, this, answered)
  local earlier, leases = string.match(redis.call('GET', claims) or '', '^(%d+)(.*)$')
  if not earlier or tonumber(earlier) <= answered then return true end
  if tonumber(earlier) >= this then return false end
  for token, fence in string.gmatch(leases, ' (%S+) (%S+)') do
    local key = P .. 'subscriber:' .. token
    local s = redis.call('HMGET', key, 'fence', 'leased')
    if s[1] == fence and s[2] then
      redis.call('HDEL', key, 'leased')
      redis.call('HINCRBY', key, 'attempts', -1)
      redis.call('ZADD', DUE, text(now), token)
    end
  end
  return true
end

local now = now_ms()
if not end_lost_leases(now, tonumber(ARGV[7]), tonumber(ARGV[8])) then return { -1 } end
follow_clock(now, tonumber(ARGV[5]))
local reply = { -1 }
local bytes = 0
local leases = {}
local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', text(now), 'LIMIT', 0, ARGV[1])
for _, token in ipairs(due) do
  local batch = give_out(token, now, tonumber(ARGV[2]), tonumber(ARGV[3]))
  if batch then
    reply[#reply + 1] = batch
    leases[#leases + 1] = ' ' .. token .. ' ' .. batch[3]
    for _, entry in ipairs(batch[#batch]) do bytes = bytes + #entry end
    if bytes >= tonumber(ARGV[4]) then break end
  end
end
if #leases > 0 then
  redis.call('SET', claims, ARGV[7] .. table.concat(leases), 'PX', ARGV[2])
end
local next_due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
if next_due then reply[1] = text(math.max(0, tonumber(next_due) - now)) end
return reply
