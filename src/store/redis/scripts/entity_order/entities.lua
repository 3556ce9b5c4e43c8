-- The entities of a queue that are set aside. ARGV: subscriber.
-- Returns { { entity, events, bytes that they take, attempts, ms until it is due }… }.

local token, now, reply = ARGV[1], now_ms(), {}
local states = redis.call('HGETALL', P .. 'entities:' .. token)
for i = 1, #states, 2 do
  local due, attempts = string.match(states[i + 1], '^(%d+) (%d+)$')
  local list = aside_list(token, states[i])
  reply[#reply + 1] = { states[i], redis.call('LLEN', list), redis.call('MEMORY', 'USAGE', list) or 0, attempts, text(math.max(0, tonumber(due) - now)) }
end
return reply
