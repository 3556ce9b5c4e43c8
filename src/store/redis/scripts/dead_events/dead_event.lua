-- One dead letter. ARGV: subscriber, position.
-- Returns { as in `list_dead` }, the newest one of that position; {} if there is none.

local dead = find_dead(ARGV[1], ARGV[2])
local row = dead and dead_row(dead)
return row and { row } or {}
