-- Gives out the batch that a subscriber asks for, after it has acknowledged the one before.
--
-- ARGV: subscriber, queue and number of the batch that it acknowledges, or '', events at most, length of the lease in
--       ms, bytes of a batch at most.
-- Returns 'no queue', 'stale', 'paused', 'nothing', milliseconds until the batch that is out comes again, or a batch as
-- give_out writes it.

local token, now = ARGV[1], now_ms()
local s = pull_queue(token)
if not s then return 'no queue' end
if ARGV[3] ~= '' then
  local events = is_batch(s, ARGV[2], ARGV[3])
  if not events then return 'stale' end
  acknowledge(token, s, events)
  s = pull_queue(token)
end
if s[3] then return 'paused' end
local until_ms = s[8] and number(redis.call('ZSCORE', P .. 'pulls_out', token))
if until_ms and until_ms > now then return text(until_ms - now) end
if redis.call('LLEN', P .. 'queue:' .. token) == 0 then return 'nothing' end
return give_out(token, now, tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[4])) or 'nothing'
