-- Finding a place in a queue.

-- How many entries of a list do not stand behind a position. Positions grow in a queue.
local function count_to(list, position)
  local low, high = 0, redis.call('LLEN', list)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local entry = redis.call('LINDEX', list, middle)
    if entry and position_of(entry) > position then high = middle else low = middle + 1 end
  end
  return low
end
