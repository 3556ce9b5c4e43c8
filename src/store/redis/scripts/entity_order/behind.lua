-- Whether something stands behind the window of a queue. ARGV: subscriber. Returns 1 or 0.

local s = redis.call('HMGET', P .. 'subscriber:' .. ARGV[1], 'head', 'batch_last')
if not s[2] then return 0 end
return redis.call('LLEN', P .. 'queue:' .. ARGV[1]) > tonumber(s[2]) - tonumber(s[1]) + 1 and 1 or 0
