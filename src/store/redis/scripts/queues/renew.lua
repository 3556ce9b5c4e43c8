-- Prolongs leases that still hold.
--
-- ARGV: length of a lease in ms, then for each lease: subscriber, queue, fence.
-- Returns the positions, from 0, of the leases that were lost.

local until_ms = text(now_ms() + tonumber(ARGV[1]))
local lost = {}
for i = 2, #ARGV, 3 do
  local token = ARGV[i]
  local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'queue', 'fence', 'leased')
  if s[1] == ARGV[i + 1] and s[2] == ARGV[i + 2] and s[3] then
    redis.call('ZADD', DUE, until_ms, token)
  else
    lost[#lost + 1] = (i - 2) / 3
  end
end
return lost
