-- Leasing a queue and giving out its batch; shared by claim and settle.

local CHUNK = 256

-- Up to `count` entries of a list, behind the first `skipped`. With a byte limit, it stops before the entry
-- that would go past it, but takes one at least.
local function read_entries(list, count, max_bytes, skipped)
  local entries, bytes, first = {}, 0, skipped or 0
  while #entries < count do
    local from = #entries
    local chunk = redis.call('LRANGE', list, first + from, first + math.min(from + CHUNK, count) - 1)
    for _, entry in ipairs(chunk) do
      bytes = bytes + #entry - HEAD
      if max_bytes and bytes > max_bytes and #entries > 0 then return entries end
      entries[#entries + 1] = entry
    end
    if #entries == from then break end
  end
  return entries
end

-- How many events the next batch has at most, and where it ends at the latest while an event is looked for that is
-- refused.
local function next_count(max, head, suspect_last, next_max)
  local count = math.min(tonumber(max), number(next_max) or math.huge)
  if suspect_last then count = math.min(count, math.max(1, tonumber(suspect_last) - head + 1)) end
  return count
end

-- Leases a queue and returns its batch, the same one as long as it is not acknowledged, or a window of a queue in the
-- order of entities; nil, and
-- nothing is due any more, if the queue is empty, paused or gone.
-- `max` is how many events it has at most, if the subscription does not allow fewer.
local function give_out(token, now, lease_ms, max_bytes, max)
  local key = P .. 'subscriber:' .. token
  local s = redis.call('HMGET', key, 'queue', 'callback', 'uuid', 'timeout', 'max', 'health',
    'head', 'batch_number', 'batch_last', 'attempts', 'fence', 'secrets', 'format', 'refusals_max',
    'suspect_last', 'next_max', 'paused', 'parallel', 'aside')
  if s[17] then
    redis.call('ZREM', DUE, token)
    redis.call('HDEL', key, 'leased')
    return nil
  end
  local head, batch, last = number(s[7]), s[8], number(s[9])
  local parallel = number(s[18])
  -- A window is taken anew each time.
  if parallel then batch, s[15], s[16] = nil, nil, nil end
  local entries = {}
  if s[1] then
    local list = P .. 'queue:' .. token
    if batch then
      entries = read_entries(list, last - head + 1)
    else
      local count = next_count(s[5], head, s[15], s[16]) * (parallel or 1)
      entries = read_entries(list, math.min(count, max or count), max_bytes)
    end
  end
  if #entries == 0 and not (s[1] and parallel and (number(s[19]) or 0) > 0) then
    redis.call('ZREM', DUE, token)
    if s[1] then redis.call('HDEL', key, 'leased', 'keeps_pause') end
    return nil
  end
  local attempts = (number(s[10]) or 0) + 1
  -- From the clock, so that it is not given out again by a server that lost its last changes.
  local fence = text(math.max((number(s[11]) or 0) + 1, now_us()))
  batch = batch or fence
  redis.call('HSET', key, 'leased', 1, 'fence', fence, 'attempts', attempts,
    'batch_number', batch, 'batch_last', text(head + #entries - 1))
  redis.call('HDEL', key, 'keeps_pause', 'health_restored')
  if s[2] == 'pull:' then
    redis.call('ZADD', P .. 'pulls_out', text(now + lease_ms), token)
  else
    redis.call('ZADD', DUE, text(now + lease_ms), token)
  end
  local waited = entries[1] and math.max(0, now - tonumber(string.sub(entries[1], 1, STAMP))) or 0
  return { token, s[1], fence, s[2], s[3], s[4], s[5], s[6], batch, attempts, waited, s[12], s[13], s[14],
    s[18], entries }
end
