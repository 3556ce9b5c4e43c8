-- Takes a dead letter away. ARGV: subscriber, position, 1 to put it at the end of its queue as a replay, origin of the
-- wake-up.
-- Returns 1, or 0 if there is none such, or nobody to deliver it to.

local token, position, is_retry = ARGV[1], ARGV[2], ARGV[3] == '1'
local key = P .. 'subscriber:' .. token
local s = redis.call('HMGET', key, 'queue', 'max', 'timeout')
if is_retry and not s[1] then return 0 end
local dead = find_dead(token, position)
if not dead then return 0 end
local _, _, item = dig_out(dead)
if is_retry then append_items(token, { ARGV[5] .. item }, s[2], s[3], ARGV[4]) end
return 1
