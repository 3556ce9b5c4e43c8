-- Records how deliveries ended; gives out a queue's next batch where that is asked for and it is due.
--
-- ARGV: length of a lease in ms, bytes of a batch at most, bytes after which no further batch is given
--       out, then for each delivery: subscriber, queue, fence, 'acknowledged' or milliseconds until the
--       batch is due again, health, 1 to take the next batch, status of the answer or '-', reason of a
--       failure or ''.
-- Returns for each 'stale', milliseconds until the released queue is due, or -1 if nothing waits in it,
-- or a batch as give_out writes it.

local lease_ms, batch_max, bytes_left = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()

local function settle(token, queue, fence, outcome, health, take_next, status, reason)
  local key, list = P .. 'subscriber:' .. token, P .. 'queue:' .. token
  local s = redis.call('HMGET', key, 'queue', 'fence', 'leased', 'head', 'batch_last', 'max',
    'timeout', 'attempts', 'health_restored')
  if s[1] ~= queue or s[2] ~= fence or not s[3] then return 'stale' end
  -- What the delivery says of a health that was restored meanwhile is out of date.
  if not s[9] then redis.call('HSET', key, 'health', health) end

  if outcome ~= 'acknowledged' then
    redis.call('HDEL', key, 'leased', 'health_restored')
    if reason ~= '' then
      redis.call('HSET', key, 'last_failure',
        table.concat({ text(now), s[8] or 1, status, reason }, ' '))
    end
    redis.call('ZADD', DUE, text(now + tonumber(outcome)), token)
    return outcome
  end

  local head = tonumber(s[4])
  local acknowledged = tonumber(s[5]) - head + 1
  if acknowledged > 0 then
    redis.call('LTRIM', list, acknowledged, -1)
    redis.call('HINCRBY', key, 'sent', acknowledged)
    redis.call('HSET', key, 'head', text(head + acknowledged))
  end
  redis.call('HDEL', key, 'leased', 'batch_number', 'batch_last', 'attempts', 'last_failure',
    'health_restored')

  local due = next_due(list, now, s[6], s[7])
  if not due then
    redis.call('ZREM', DUE, token)
    return -1
  end
  if due <= now and take_next and bytes_left > 0 then
    local batch = give_out(token, now, lease_ms, batch_max)
    if not batch then return -1 end
    for _, entry in ipairs(batch[#batch]) do bytes_left = bytes_left - #entry end
    return batch
  end
  redis.call('ZADD', DUE, text(due), token)
  return text(math.max(0, due - now))
end

local reply = {}
for i = 4, #ARGV, 8 do
  reply[#reply + 1] = settle(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4],
    ARGV[i + 5] == '1', ARGV[i + 6], ARGV[i + 7])
end
return reply
