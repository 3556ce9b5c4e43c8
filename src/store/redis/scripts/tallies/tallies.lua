-- What passed. ARGV: the subject, then the ends of the keys of buckets. Returns for each what is written there,
-- or ''.

local reply = {}
for i = 2, #ARGV do
  reply[#reply + 1] = redis.call('HGET', P .. 'tally:' .. ARGV[i], ARGV[1]) or ''
end
return reply
