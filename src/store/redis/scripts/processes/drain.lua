-- Asks a process to deliver nothing more, or to deliver again. ARGV: process, 1 or 0. Returns 1, or 0 if it is not there.

local until_ms = number(redis.call('ZSCORE', P .. 'present', ARGV[1]))
if not until_ms or until_ms <= now_ms() then return 0 end
redis.call(ARGV[2] == '1' and 'SADD' or 'SREM', P .. 'draining', ARGV[1])
return 1
