-- Dropping items that no worker has in hand; shared by the scripts that drop.

-- How many items at the head of a queue are on their way to the subscriber.
local function in_flight(token)
  local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'leased', 'head', 'batch_last')
  if not s[1] then return 0 end
  return tonumber(s[3]) - tonumber(s[2]) + 1
end

-- Drops the first n items behind those in flight, and counts them in a field of the subscriber.
local function drop(token, flying, n, field, now)
  local key, list = P .. 'subscriber:' .. token, P .. 'queue:' .. token
  if flying > 0 then
    -- The batch in flight stands before what goes: it is taken out and put back, and numbered as
    -- if it had always stood right before the rest.
    local entries = redis.call('LRANGE', list, 0, flying - 1)
    redis.call('LTRIM', list, flying + n, -1)
    for from = #entries, 1, -1 do redis.call('LPUSH', list, entries[from]) end
    redis.call('HINCRBY', key, 'batch_last', n)
  else
    redis.call('LTRIM', list, n, -1)
    -- What is left of a batch that waits to be sent again will be another batch. The queue stays
    -- in the worker's hands, so that its pause is kept.
    if redis.call('HDEL', key, 'batch_number', 'batch_last', 'attempts', 'refusals') > 0 then
      redis.call('HSET', key, 'keeps_pause', 1)
    end
  end
  redis.call('HDEL', key, 'suspect_last', 'next_max')
  redis.call('HINCRBY', key, 'head', n)
  redis.call('HINCRBY', key, field, n)
  local s = redis.call('HMGET', key, 'max', 'timeout')
  if in_hand(token) then return end
  local due = next_due(token, now, s[1], s[2])
  if due then redis.call('ZADD', DUE, text(due), token) else redis.call('ZREM', DUE, token) end
end
