-- Finding a place in a queue.

-- How far an event may stand from where its position says: events of several committers come into other lanes than
-- home in another order than they got their positions.
local WINDOW = 200

-- How many entries of a list stand before and at a position.
local function count_to(list, position)
  local low, high = 0, redis.call('LLEN', list)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local entry = redis.call('LINDEX', list, middle)
    if entry and position_of(entry) > position then high = middle else low = middle + 1 end
  end
  local from = math.max(0, low - WINDOW)
  for index, entry in ipairs(redis.call('LRANGE', list, from, low + WINDOW)) do
    if position_of(entry) == position then return from + index end
  end
  return low
end
