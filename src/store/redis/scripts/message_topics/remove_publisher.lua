-- Removes a publisher. ARGV: id. Returns 'gone', 'was gone' if it was there once, or 'unknown'.

if remove_publisher(ARGV[1]) then return 'gone' end
local last = number(redis.call('HGET', IDS, 'publishers')) or 0
return tonumber(ARGV[1]) >= 1 and tonumber(ARGV[1]) <= last and 'was gone' or 'unknown'
