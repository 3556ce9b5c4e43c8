-- Records how a delivery ended; gives out the queue's next batch if asked and due.
--
-- ARGV: subscriber, queue, fence, 'acknowledged' or milliseconds until the batch is due again,
--       health, 1 to take the next batch, length of a lease in ms, bytes of a batch at most, status
--       of the answer or '-', reason of a failure or ''.
-- Returns 'stale', milliseconds until the released queue is due, or -1 if nothing waits in it, or
-- a batch as give_out writes it.

local token, outcome = ARGV[1], ARGV[4]
local key, list = P .. 'subscriber:' .. token, P .. 'queue:' .. token
local s = redis.call('HMGET', key, 'queue', 'fence', 'leased', 'head', 'batch_last', 'max',
  'timeout', 'attempts')
if s[1] ~= ARGV[2] or s[2] ~= ARGV[3] or not s[3] then return 'stale' end
redis.call('HSET', key, 'health', ARGV[5])
local now = now_ms()

if outcome ~= 'acknowledged' then
  redis.call('HDEL', key, 'leased')
  if ARGV[10] ~= '' then
    redis.call('HSET', key, 'last_failure',
      table.concat({ text(now), s[8] or 1, ARGV[9], ARGV[10] }, ' '))
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
redis.call('HDEL', key, 'leased', 'batch_number', 'batch_last', 'attempts', 'last_failure')

local due = next_due(list, now, s[6], s[7])
if not due then
  redis.call('ZREM', DUE, token)
  return -1
end
if due <= now and ARGV[6] == '1' then
  return give_out(token, now, tonumber(ARGV[7]), tonumber(ARGV[8])) or -1
end
redis.call('ZADD', DUE, text(due), token)
return text(math.max(0, due - now))
