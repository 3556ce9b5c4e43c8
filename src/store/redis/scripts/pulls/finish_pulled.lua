-- Takes a batch off its queue, or gives it back. ARGV: subscriber, queue and number of the batch, 1 to take it off,
-- origin of the wake-up.
-- Returns { events, attempt }, or nil if it is not the batch that was given out.

local token = ARGV[1]
local s = pull_queue(token)
local events, attempt = is_batch(s, ARGV[2], ARGV[3])
if not events then return false end
if ARGV[4] == '1' then acknowledge(token, s, events) else give_back(token) end
redis.pcall('PUBLISH', P .. 'arrivals', ARGV[5] .. ' ' .. token)
return { events, attempt }
