-- Says what drop_oldest would drop, and changes nothing.
--
-- ARGV: as for drop_oldest, then pairs of subscriber and items that count as dropped already.

local skip = {}
for i = 4, #ARGV, 2 do skip[ARGV[i]] = tonumber(ARGV[i + 1]) end
return reply_of(oldest(tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), skip))
