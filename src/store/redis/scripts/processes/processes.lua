-- What the processes that are there say of themselves.

local reply = {}
local present = redis.call('ZRANGEBYSCORE', P .. 'present', '(' .. text(now_ms()), '+inf')
for _, process in ipairs(present) do
  reply[#reply + 1] = redis.call('HGET', P .. 'processes', process) or nil
end
return reply
