-- All topics. Returns { { name, publisher or '', events, '<ms> <bytes>' that it keeps, or nil }… }.

local reply = {}
local topics = redis.call('HGETALL', P .. 'topics')
for i = 1, #topics, 2 do
  local events = redis.call('HGET', P .. 'events', topics[i]) or '0'
  reply[#reply + 1] = { topics[i], topics[i + 1], events, redis.call('HGET', P .. 'keeps', topics[i]) }
end
return reply
