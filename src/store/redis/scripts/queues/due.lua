-- When a queue is due: the one place that says so. A new state of a queue is taught here.
--
-- While a batch is in a worker's hands (leased, or waiting to be sent again), the worker says when the
-- queue is due, by the lease or by the pause. Else it follows from what waits. A queue that is paused is due
-- only when the lease runs out that was given before. One that its subscriber pulls from is never due.

local PULL = 'pull:'

-- Whether what waits says nothing of when a queue is due, because a batch of it is in a worker's hands, because it is
-- paused, or because its subscriber asks for its batches.
local function in_hand(token)
  local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'leased', 'batch_number', 'keeps_pause',
    'paused', 'callback')
  return s[1] or s[2] or s[3] or s[4] or s[5] == PULL
end

-- When the next batch of what stands in a queue is to leave, if no worker has it in hand; nil if it is empty.
local function list_due(list, now, max, timeout)
  local length = redis.call('LLEN', list)
  if length == 0 then return nil end
  if length >= tonumber(max) then return now end
  local oldest = tonumber(string.sub(redis.call('LINDEX', list, 0), 1, STAMP))
  -- Not from a time to come, if the clock was set back meanwhile.
  return math.min(oldest, now) + tonumber(timeout)
end

-- As list_due, of a queue with what is set aside of it.
local function next_due(token, now, max, timeout)
  local first = list_due(P .. 'queue:' .. token, now, max, timeout)
  for _, state in ipairs(redis.call('HVALS', P .. 'entities:' .. token)) do
    local due = tonumber(string.match(state, '^%d+'))
    first = math.min(first or due, due)
  end
  return first
end

-- What entries that were appended change of when a queue is due, given how many it held before and holds
-- now; nil if nothing.
local function due_after_append(token, before, length, now, max, timeout)
  local fills = before < max and length >= max
  -- Behind others, an entry does not change when the oldest one has waited for long enough.
  if (before > 0 and not fills) or in_hand(token) then return nil end
  return length >= max and now or now + timeout
end

-- Ends what holds a queue: what waits to be sent again is due at once, else it follows from what waits.
local function let_go(token, now)
  local key = P .. 'subscriber:' .. token
  redis.call('HDEL', key, 'paused')
  local s = redis.call('HMGET', key, 'leased', 'batch_number', 'keeps_pause', 'max', 'timeout', 'callback')
  if s[1] or s[6] == PULL then return end
  local due = (s[2] or s[3]) and now or next_due(token, now, s[4], s[5])
  if due then redis.call('ZADD', DUE, text(due), token) else redis.call('ZREM', DUE, token) end
end
