-- Adds entries to the journal; the oldest go where there are too many.
--
-- ARGV: how long entries are kept in ms, bytes that they may take, then each entry.

local key, now = P .. 'journal', now_ms()
for i = 3, #ARGV do redis.call('XADD', key, '*', 'e', ARGV[i]) end
redis.call('XTRIM', key, 'MINID', '~', text(math.max(0, now - tonumber(ARGV[1]))))
local bytes = redis.call('MEMORY', 'USAGE', key) or 0
if bytes > tonumber(ARGV[2]) then
  redis.call('XTRIM', key, 'MAXLEN', '~', math.floor(redis.call('XLEN', key) * 0.9))
end
return 1
