-- The subscriptions of some subscribers; of all of many at once it would hold up everybody else.
--
-- ARGV: tokens.
-- Returns { { subscriber, callback, uuid or nil, timeout, max, retention or nil, max_queued or nil,
--             sent, autodropped, expired, health, queued, oldest or nil, last failure or nil,
--             { topics… }, secrets or nil, format or nil, refusals_max or nil, parallel or nil, paused or nil, batch_number or nil,
--             events of that batch, attempts, 1 if it is leased, queue, when it is due, or nil }… }.

local now = now_ms()
local reply = {}
for _, token in ipairs(ARGV) do
  local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'callback', 'uuid', 'timeout', 'max',
    'retention', 'max_queued', 'sent', 'autodropped', 'expired', 'health', 'last_failure', 'secrets', 'format',
    'refusals_max', 'paused', 'batch_number', 'batch_last', 'head', 'attempts', 'leased',
    'queue', 'parallel', 'aside')
  -- It may have unsubscribed meanwhile.
  if s[1] then
    local list = P .. 'queue:' .. token
    local aside = number(s[23]) or 0
    local oldest = redis.call('LINDEX', list, 0)
    if aside > 0 then oldest = first_aside(token, oldest) end
    -- Positions go on from the last one if the clock is set back, which is then in a time to come.
    local oldest_ms = oldest and math.min(tonumber(string.sub(oldest, 1, STAMP)), now)
    reply[#reply + 1] = { token, s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8] or '0', s[9] or '0',
      s[10], redis.call('LLEN', list) + aside, oldest_ms and text(oldest_ms), s[11],
      redis.call('SMEMBERS', P .. 'topics_of:' .. token), s[12], s[13], s[14], s[22], s[15], s[16],
      s[16] and tonumber(s[17]) - tonumber(s[18]) + 1 or 0, s[19] or '0', s[20] and 1 or 0, s[21],
      redis.call('ZSCORE', DUE, token) }
  end
end
return reply
