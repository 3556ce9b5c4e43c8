-- Puts what topics have kept behind a position at the end of a subscriber's queue; when that is all, subscribes it to them.
--
-- ARGV: subscriber, the position, how many at most, origin of the wake-up, topics…
-- Returns the position of the last one, '0' if that was all, or nil if there is no such subscriber.

local token, limit = ARGV[1], tonumber(ARGV[3])
local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'queue', 'max', 'timeout', 'callback')
if not s[1] then return false end
local entries = kept_of_all(5, tonumber(ARGV[2]), limit)
local items = {}
for _, entry in ipairs(entries) do items[#items + 1] = item_of(entry) end
if #items > 0 then append_items(token, items, s[2], s[3], ARGV[4]) end
if #items == limit then return text(position_of(entries[#entries])) end
for i = 5, #ARGV do
  put_subscribed(ARGV[i], token, s[4] == 'pull:' and '0' or s[2], s[3], '')
end
return '0'
