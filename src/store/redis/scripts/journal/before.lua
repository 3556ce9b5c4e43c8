-- Entries before a place, the newest first. ARGV: the place, or '+' for the end, how many at most. Returns for each
-- { its place, the entry }.

local reply = {}
for _, found in ipairs(redis.call('XREVRANGE', P .. 'journal', ARGV[1], '-', 'COUNT', ARGV[2])) do
  reply[#reply + 1] = { found[1], found[2][2] }
end
return reply
