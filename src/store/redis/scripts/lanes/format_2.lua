-- Brings a lane from format 1 to 2, in which `held` is called `keeps_pause`.

for _, token in ipairs(redis.call('SMEMBERS', P .. 'subscribers')) do
  local key = P .. 'subscriber:' .. token
  if redis.call('HDEL', key, 'held') > 0 then redis.call('HSET', key, 'keeps_pause', 1) end
end
