-- Looks in the home lane whether topics exist. ARGV: the number of lanes, who makes those that do not, or
-- '', how many topics one client may have, topics…
-- Returns the first one that is unknown, '' if there would be too many, or { the birth of each }.

local mismatch = keep_lane_count(ARGV[1])
if mismatch then return mismatch end
local unknown = unknown_topic(4, ARGV[2] ~= '' and ARGV[2], tonumber(ARGV[3]))
if unknown == false then return '' end
if unknown then return unknown end
local births = {}
for i = 4, #ARGV do births[#births + 1] = birth(ARGV[i]) end
return births
