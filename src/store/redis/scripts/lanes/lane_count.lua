-- How many lanes there are; shared by what brings something into the home lane. A store that lost its
-- data gets the number back from whoever uses it next, before another process decides otherwise.

-- Keeps the number of lanes; an error if the store has another one than this process.
local function keep_lane_count(count)
  if redis.call('SET', P .. 'lanes', count, 'NX') then return nil end
  local stored = redis.call('GET', P .. 'lanes')
  if stored == count then return nil end
  return redis.error_reply('LANES the store has ' .. stored .. ' lanes, and this process knows ' ..
    count .. ': give all processes the same ROUTEMASTER_REDIS_LANES, and start this one again')
end
