-- Records how deliveries ended; gives out a queue's next batch where that is asked for and it is due.
--
-- ARGV: length of a lease in ms, bytes of a batch at most, bytes after which no further batch is given
--       out, then for each delivery: subscriber, queue, fence, 'acknowledged' or milliseconds until the
--       batch is due again, or 'gone', health, 1 to take the next batch, status of the answer or '-', reason of a
--       failure or '', 1 if the answer refuses what was sent.
-- Returns for each 'stale', milliseconds until the released queue is due, or -1 if nothing waits in it,
-- or a batch as give_out writes it.

local lease_ms, batch_max, bytes_left = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()

-- The next batch is another one.
local function forget_batch(key, suspect_last, next_max)
  redis.call('HDEL', key, 'batch_number', 'batch_last', 'attempts', 'refusals', 'suspect_last', 'next_max')
  redis.call('HSET', key, 'keeps_pause', 1)
  if suspect_last then redis.call('HSET', key, 'suspect_last', text(suspect_last)) end
  if next_max then redis.call('HSET', key, 'next_max', next_max) end
end

-- Takes note of a refusal of the batch. When it was refused often enough, it is halved, or the one event in it is a
-- dead letter. False if nothing waits any more.
local function refused(token, key, list, head, last, max, now, status, reason)
  local refusals = redis.call('HINCRBY', key, 'refusals', 1)
  local suspect, events = number(redis.call('HGET', key, 'suspect_last')), last - head + 1
  -- What was refused with others is not guilty yet: alone it has as many tries as the batch had.
  local is_half = suspect and events > 1
  if refusals < (is_half and 1 or max) then return true end
  local suspect_last = math.max(suspect or last, last)
  if events > 1 then
    forget_batch(key, suspect_last, math.floor(events / 2))
    return true
  end
  bury(token, redis.call('LRANGE', list, 0, 0), now, 'refused', status, reason)
  redis.call('LTRIM', list, 1, -1)
  redis.call('HINCRBY', key, 'head', 1)
  forget_batch(key, suspect_last > head and suspect_last, nil)
  return redis.call('LLEN', list) > 0
end

local function settle(token, queue, fence, outcome, health, take_next, status, reason, is_refusal)
  local key, list = P .. 'subscriber:' .. token, P .. 'queue:' .. token
  local s = redis.call('HMGET', key, 'queue', 'fence', 'leased', 'head', 'batch_last', 'max',
    'timeout', 'attempts', 'health_restored', 'paused', 'refusals_max', 'suspect_last', 'parallel')
  if s[1] ~= queue or s[2] ~= fence or not s[3] then return 'stale' end
  -- What the delivery says of a health that was restored meanwhile is out of date.
  if not s[9] then redis.call('HSET', key, 'health', health) end

  if outcome ~= 'acknowledged' then
    redis.call('HDEL', key, 'leased', 'health_restored')
    if reason ~= '' then
      redis.call('HSET', key, 'last_failure',
        table.concat({ text(now), s[8] or 1, status, reason }, ' '))
    end
    local waits = true
    if is_refusal and s[11] and not s[13] then
      waits = refused(token, key, list, tonumber(s[4]), tonumber(s[5]), tonumber(s[11]), now, status, reason)
    end
    if outcome == 'gone' then
      redis.call('HSET', key, 'paused', s[10] or text(now) .. ' callback')
      s[10] = true
    end
    if s[10] or not waits then
      redis.call('ZREM', DUE, token)
      return -1
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
    'health_restored', 'refusals', 'next_max')
  if s[12] and tonumber(s[12]) < head + acknowledged then redis.call('HDEL', key, 'suspect_last') end

  -- Of a queue with something set aside, no batch is acknowledged: a window is.
  local due = not s[10] and list_due(list, now, s[6], s[7])
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
for i = 4, #ARGV, 9 do
  reply[#reply + 1] = settle(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4],
    ARGV[i + 5] == '1', ARGV[i + 6], ARGV[i + 7], ARGV[i + 8] == '1')
end
return reply
