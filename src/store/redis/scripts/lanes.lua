-- How many lanes there are. ARGV: how many there are to be if that was not decided yet, 1 to decide it
-- so. Returns the number, and whether it is decided.

local key = P .. 'lanes'
local lanes = redis.call('GET', key)
if not lanes then
  -- A store that was used before there were several has one.
  local used = redis.call('EXISTS', P .. 'topics', P .. 'subscribers', P .. 'api_tokens') > 0
  lanes = used and '1' or ARGV[1]
  if ARGV[2] == '0' then return { tonumber(lanes), 0 } end
  redis.call('SET', key, lanes)
end
return { tonumber(lanes), 1 }
