-- How much of batches of another bus was taken. ARGV: subscriber, batches…
-- Returns '<entries>:<items>' for each.

local reply = {}
for i = 2, #ARGV do
  reply[i - 1] = redis.call('HGET', P .. 'imported:' .. ARGV[1], ARGV[i]) or '0:0'
end
return reply
