-- Takes or keeps a duty. ARGV: duty, process, term in ms; 0 gives the duty back.
-- Returns 1 if the process has it now, or had it to give back.

local key = P .. 'duty:' .. ARGV[1]
local holder = redis.call('GET', key)
-- A term that ends later than any can was set before the clock was set back.
local TERM_MAX_MS = 60000
if holder and holder ~= ARGV[2] and redis.call('PTTL', key) <= TERM_MAX_MS then return 0 end
if ARGV[3] == '0' then
  redis.call('DEL', key)
else
  redis.call('SET', key, ARGV[2], 'PX', ARGV[3])
end
return 1
