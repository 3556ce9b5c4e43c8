-- Looks in the home lane whether topics exist. ARGV: the number of lanes, 1 to make those that do not,
-- topics…
-- Returns the first one that is unknown, or { the birth of each }.

local mismatch = keep_lane_count(ARGV[1])
if mismatch then return mismatch end
local unknown = unknown_topic(3, ARGV[2] == '1')
if unknown then return unknown end
local births = {}
for i = 3, #ARGV do births[#births + 1] = birth(ARGV[i]) end
return births
