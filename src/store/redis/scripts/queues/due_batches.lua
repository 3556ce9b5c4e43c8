-- Counts the batches that the queues due within a time, or in a worker's hands, amount to.
-- ARGV: the time in ms.

local until_ms = now_ms() + tonumber(ARGV[1])
local due = redis.call('ZRANGE', DUE, 0, -1, 'WITHSCORES')
local batches = 0
for i = 1, #due, 2 do
  local token = due[i]
  local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'max', 'leased')
  if s[1] and (s[2] or tonumber(due[i + 1]) <= until_ms) then
    local length = redis.call('LLEN', P .. 'queue:' .. token)
    batches = batches + math.ceil(length / tonumber(s[1]))
  end
end
return batches
