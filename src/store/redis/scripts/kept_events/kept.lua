-- Events that topics keep; shared by what reads and what forgets them.

-- What one takes beside its entry, about.
local KEPT_OVERHEAD = 20

-- Entries of a topic behind a position, so many at most.
local function kept_of(topic, after, limit)
  local list = P .. 'kept:' .. topic
  local from = count_to(list, after)
  return redis.call('LRANGE', list, from, from + limit - 1)
end

-- Those of several topics, in their order. ARGV from `first` on are the topics.
local function kept_of_all(first, after, limit)
  local entries = {}
  for i = first, #ARGV do
    for _, entry in ipairs(kept_of(ARGV[i], after, limit)) do entries[#entries + 1] = entry end
  end
  table.sort(entries, function(one, other) return position_of(one) < position_of(other) end)
  for i = #entries, limit + 1, -1 do entries[i] = nil end
  return entries
end
