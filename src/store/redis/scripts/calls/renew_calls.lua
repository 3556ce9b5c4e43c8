-- Prolongs leases that still hold.
--
-- ARGV: length of a lease in ms, then for each lease: client, id, fence.
-- Returns the positions, from 0, of the leases that were lost.

local until_ms = text(now_ms() + tonumber(ARGV[1]))
local lost = {}
for i = 2, #ARGV, 3 do
  local member = member_of(ARGV[i], ARGV[i + 1])
  local c = redis.call('HMGET', call_key(member), 'fence', 'leased')
  if c[1] == ARGV[i + 2] and c[2] then
    redis.call('ZADD', CALLS_LEASED, until_ms, member)
  else
    lost[#lost + 1] = (i - 2) / 3
  end
end
return lost
