-- Looks whether topics exist. ARGV: what to do about unknown ones, as for unknown_topic, topics…
-- Returns 'done', or { a topic that is unknown }.

local unknown = unknown_topic(2, ARGV[1])
if unknown then return { unknown } end
return 'done'
