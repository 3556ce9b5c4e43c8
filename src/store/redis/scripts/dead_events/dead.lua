-- Dead letters: events that were taken out of a queue; shared by what takes them out, and what shows them.
--
-- In `dead_items` stands '<token> <position> <ms> <cause> <status or ->', the reason of the failure or '', and the item,
-- a line each.

-- What one takes beside its item, about.
local DEAD_OVERHEAD = 400

local function count_dead(events, bytes)
  redis.call('HINCRBY', P .. 'dead_room', 'events', events)
  redis.call('HINCRBY', P .. 'dead_room', 'bytes', bytes)
end

-- Makes dead letters of entries that are taken out of a queue.
local function bury(token, entries, now, cause, status, reason)
  for _, entry in ipairs(entries) do
    local dead = redis.call('HINCRBY', P .. 'dead_room', 'last', 1)
    local position, item = text(position_of(entry)), item_of(entry)
    redis.call('HSET', P .. 'dead_items', dead, table.concat({ token, position, text(now), cause, status }, ' ')
      .. '\n' .. reason .. '\n' .. item)
    redis.call('ZADD', P .. 'dead_of:' .. token, position, dead)
    redis.call('ZADD', P .. 'dead_events', text(now), dead)
    count_dead(1, #item + DEAD_OVERHEAD)
  end
end

-- Forgets one; its parts, or nil if there is none such.
local function dig_out(dead)
  local kept = redis.call('HGET', P .. 'dead_items', dead)
  if not kept then return nil end
  local token, position, item = string.match(kept, '^(%S+) (%d+) [^\n]*\n[^\n]*\n(.*)$')
  redis.call('HDEL', P .. 'dead_items', dead)
  redis.call('ZREM', P .. 'dead_of:' .. token, dead)
  redis.call('ZREM', P .. 'dead_events', dead)
  count_dead(-1, -(#item + DEAD_OVERHEAD))
  return token, position, item
end

-- The newest of a subscriber's that has this position.
local function find_dead(token, position)
  local found = redis.call('ZRANGEBYSCORE', P .. 'dead_of:' .. token, position, position)
  return found[#found]
end

-- One as it is returned: { number, token, position, ms, cause, status or '-', reason, item }; nil if there is none such.
local function dead_row(dead)
  local kept = redis.call('HGET', P .. 'dead_items', dead)
  if not kept then return nil end
  local token, position, ms, cause, status, reason, item =
    string.match(kept, '^(%S+) (%d+) (%d+) (%S+) (%S+)\n([^\n]*)\n(.*)$')
  return { dead, token, position, ms, cause, status, reason, item }
end
