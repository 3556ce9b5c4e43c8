-- The subscriptions of some subscribers; of all of many at once it would hold up everybody else.
--
-- ARGV: tokens.
-- Returns { { subscriber, callback, uuid or nil, timeout, max, retention or nil, max_queued or nil,
--             sent, autodropped, expired, health, queued, oldest or nil, last failure or nil,
--             { topics… } }… }.

local reply = {}
for _, token in ipairs(ARGV) do
  local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'callback', 'uuid', 'timeout', 'max',
    'retention', 'max_queued', 'sent', 'autodropped', 'expired', 'health', 'last_failure')
  -- It may have unsubscribed meanwhile.
  if s[1] then
    local list = P .. 'queue:' .. token
    local oldest = redis.call('LINDEX', list, 0)
    reply[#reply + 1] = { token, s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8] or '0', s[9] or '0',
      s[10], redis.call('LLEN', list), oldest and string.sub(oldest, 1, STAMP), s[11],
      redis.call('SMEMBERS', P .. 'topics_of:' .. token) }
  end
end
return reply
