-- Makes what waits due at once. ARGV: subscriber, origin of the wake-up.
-- Returns 'due', 'nothing', 'paused' or 'unknown'.

local token = ARGV[1]
local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'queue', 'paused', 'leased', 'callback')
if not s[1] then return 'unknown' end
if s[2] then return 'paused' end
if s[3] or s[4] == 'pull:' or redis.call('LLEN', P .. 'queue:' .. token) == 0 then return 'nothing' end
redis.call('ZADD', DUE, text(now_ms()), token)
redis.pcall('PUBLISH', P .. 'wake', ARGV[2] .. ':0')
return 'due'
