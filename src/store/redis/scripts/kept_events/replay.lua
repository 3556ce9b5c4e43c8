-- Puts items at the end of a subscriber's queue. ARGV: subscriber, origin of the wake-up, items… Returns 1, or 0 if there is
-- no such subscriber.

local s = redis.call('HMGET', P .. 'subscriber:' .. ARGV[1], 'queue', 'max', 'timeout')
if not s[1] then return 0 end
local items = {}
for i = 3, #ARGV do items[#items + 1] = ARGV[i] end
if #items > 0 then append_items(ARGV[1], items, s[2], s[3], ARGV[2]) end
return 1
