-- When a queue is due: the one place that says so. A new state of a queue is taught here.
--
-- While a batch is in a worker's hands (leased, or waiting to be sent again), the worker says when the
-- queue is due, by the lease or by the pause. Else it follows from what waits.

-- Whether a batch of a queue is in a worker's hands.
local function in_hand(token)
  local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'leased', 'batch_number', 'keeps_pause')
  return s[1] or s[2] or s[3]
end

-- When the next batch of a queue that no worker has in hand is to leave; nil if it is empty.
local function next_due(list, now, max, timeout)
  local length = redis.call('LLEN', list)
  if length == 0 then return nil end
  if length >= tonumber(max) then return now end
  local oldest = tonumber(string.sub(redis.call('LINDEX', list, 0), 1, STAMP))
  -- Not from a time to come, if the clock was set back meanwhile.
  return math.min(oldest, now) + tonumber(timeout)
end

-- What entries that were appended change of when a queue is due, given how many it held before and holds
-- now; nil if nothing.
local function due_after_append(token, before, length, now, max, timeout)
  local fills = before < max and length >= max
  -- Behind others, an entry does not change when the oldest one has waited for long enough.
  if (before > 0 and not fills) or in_hand(token) then return nil end
  return length >= max and now or now + timeout
end
