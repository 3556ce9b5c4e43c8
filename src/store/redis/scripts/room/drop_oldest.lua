-- Drops the oldest items of all queues. ARGV: bytes, items at most, overhead of an item in bytes.
-- Returns { { subscriber, items, bytes }… }.

local now = now_ms()
local found = oldest(tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), {})
for _, queue in ipairs(found) do drop(queue.token, queue.flying, queue.n, 'autodropped', now) end
return reply_of(found)
