-- Publishers that have not caught up. Returns for each { id, id of its topic, the last message that it has been given }.

local reply, behind = {}, redis.call('HGETALL', BEHIND)
for i = 1, #behind, 2 do
  reply[#reply + 1] = { behind[i], behind[i + 1], redis.call('HGET', forwarders_key(behind[i + 1]), behind[i]) or '0' }
end
return reply
