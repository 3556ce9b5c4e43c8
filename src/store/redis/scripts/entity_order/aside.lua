-- What is set aside of a queue in the order of entities: its events, a list for each entity, and `entities`.

local function aside_list(token, entity)
  return P .. 'aside:' .. token .. ':' .. entity
end

-- Whether a lease holds; if so, the fields of its queue that come after the three that tell.
local function held(token, queue, fence, ...)
  local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'queue', 'fence', 'leased', ...)
  if s[1] ~= queue or s[2] ~= fence or not s[3] then return nil end
  return { unpack(s, 4) }
end

-- Takes the first n events of an entity away, and forgets it if that was all.
local function take_aside(token, entity, n)
  local list = aside_list(token, entity)
  redis.call('LTRIM', list, n, -1)
  redis.call('HINCRBY', P .. 'subscriber:' .. token, 'aside', -n)
  if redis.call('LLEN', list) == 0 then redis.call('HDEL', P .. 'entities:' .. token, entity) end
end

-- All that is set aside, in the order of positions.
local function all_aside(token)
  local all = {}
  for _, entity in ipairs(redis.call('HKEYS', P .. 'entities:' .. token)) do
    for _, entry in ipairs(redis.call('LRANGE', aside_list(token, entity), 0, -1)) do all[#all + 1] = entry end
  end
  table.sort(all, function(one, other) return position_of(one) < position_of(other) end)
  return all
end

-- The oldest of what is set aside and another entry, which may be none.
local function first_aside(token, first)
  for _, entity in ipairs(redis.call('HKEYS', P .. 'entities:' .. token)) do
    local entry = redis.call('LINDEX', aside_list(token, entity), 0)
    if entry and (not first or position_of(entry) < position_of(first)) then first = entry end
  end
  return first
end

local function forget_aside(token)
  for _, entity in ipairs(redis.call('HKEYS', P .. 'entities:' .. token)) do
    redis.call('UNLINK', aside_list(token, entity))
  end
  redis.call('UNLINK', P .. 'entities:' .. token)
end

-- Puts entries before all that is in a list.
local function push_front(list, entries)
  for at = #entries, 1, -1 do redis.call('LPUSH', list, entries[at]) end
end
