-- Destinations that something waits for: those that fail first. ARGV: how many are looked at, from either end of when
-- they are due, and how many are told. Returns for each name, waiting, in flight, failures, when it is due.

local looked_at, at_most = tonumber(ARGV[1]), tonumber(ARGV[2])
local names = redis.call('ZRANGE', DESTINATIONS, 0, looked_at - 1, 'WITHSCORES')
local many = redis.call('ZCARD', DESTINATIONS)
if many > looked_at then
  -- One that fails waits for longer than others.
  local late = redis.call('ZRANGE', DESTINATIONS, math.max(looked_at, many - looked_at), -1, 'WITHSCORES')
  for _, part in ipairs(late) do names[#names + 1] = part end
end
local failing, others = {}, {}
for i = 1, #names, 2 do
  local d = redis.call('HMGET', destination_key(names[i]), 'in_flight', 'failures')
  local row = { names[i], redis.call('ZCARD', waiting_key(names[i])), number(d[1]) or 0, number(d[2]) or 0,
    text(tonumber(names[i + 1])) }
  local to = row[4] > 0 and failing or others
  to[#to + 1] = row
end
table.sort(failing, function(a, b) return a[4] > b[4] end)
local reply = {}
for _, rows in ipairs({ failing, others }) do
  for _, row in ipairs(rows) do
    if #reply < at_most then reply[#reply + 1] = row end
  end
end
return reply
