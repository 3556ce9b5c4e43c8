-- Looks whether topics exist. ARGV: the number of lanes, what to do about unknown ones, as
-- for unknown_topic, topics…
-- Returns 'done', or { a topic that is unknown }.

local mismatch = keep_lane_count(ARGV[1])
if mismatch then return mismatch end
local unknown = unknown_topic(3, ARGV[2])
if unknown then return { unknown } end
return 'done'
