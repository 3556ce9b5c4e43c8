-- When a queue is due; shared by the scripts that change what is in it or how it is delivered.

-- When the next batch of a queue that no worker has in hand is to leave; nil if it is empty.
local function next_due(list, now, max, timeout)
  local length = redis.call('LLEN', list)
  if length == 0 then return nil end
  if length >= tonumber(max) then return now end
  local oldest = tonumber(string.sub(redis.call('LINDEX', list, 0), 1, STAMP))
  -- Not from a time to come, if the clock was set back meanwhile.
  return math.min(oldest, now) + tonumber(timeout)
end
