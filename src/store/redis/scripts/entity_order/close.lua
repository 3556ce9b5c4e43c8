-- Gives the lease of a window back. ARGV: subscriber, queue, fence.
-- Returns milliseconds until the queue is due, or -1.

local token, now = ARGV[1], now_ms()
local s = held(token, ARGV[2], ARGV[3], 'max', 'timeout', 'paused')
if not s then return -1 end
redis.call('HDEL', P .. 'subscriber:' .. token, 'leased', 'batch_number', 'batch_last', 'attempts')
local due = not s[3] and next_due(token, now, s[1], s[2])
if not due then
  redis.call('ZREM', DUE, token)
  return -1
end
redis.call('ZADD', DUE, text(due), token)
return text(math.max(0, due - now))
