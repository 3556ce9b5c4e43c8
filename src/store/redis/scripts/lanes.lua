-- How many lanes there are. ARGV: how many there are to be if that was not decided yet, 1 to decide it
-- so. Returns the number, and whether it is decided.

local key = P .. 'lanes'
local lanes = redis.call('GET', key)
if not lanes then
  lanes = ARGV[1]
  if ARGV[2] == '0' then return { tonumber(lanes), 0 } end
  redis.call('SET', key, lanes)
end
return { tonumber(lanes), 1 }
