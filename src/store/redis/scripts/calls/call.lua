-- What calls and their destinations have in common; shared by all scripts about calls.

-- A call's name in sets: no token has a slash.
local function member_of(client, id) return client .. '/' .. id end
local function names_of(member) return string.match(member, '^([^/]*)/(.*)$') end

-- What is short, so that Redis keeps it compactly; title and content, one after the other, stand apart.
local function call_key(member) return P .. 'call:' .. member end
local function content_key(member) return P .. 'call_content:' .. member end
-- A title that calls share, and how many do.
local function title_key(name) return P .. 'call_title:' .. name end

-- A message, of which several publishers' deliveries are calls; its content stands with it.
local function message_key(number) return P .. 'message:' .. number end

-- All calls but deliveries of messages, at their positions.
local CALLS, ROOM = P .. 'calls', P .. 'call_room'
local function waiting_key(destination) return P .. 'calls_waiting:' .. destination end
local function destination_key(destination) return P .. 'destination:' .. destination end

local DESTINATIONS, CALLS_LEASED = P .. 'destinations_due', P .. 'calls_leased'

-- Works out when a destination's next call is due, and forgets one that has none.
local function reschedule(destination)
  local first = redis.call('ZRANGE', waiting_key(destination), 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', DESTINATIONS, first[2], destination)
    return
  end
  redis.call('ZREM', DESTINATIONS, destination)
  if (number(redis.call('HGET', destination_key(destination), 'in_flight')) or 0) <= 0 then
    redis.call('DEL', destination_key(destination))
  end
end

local function wait_until(member, destination, due)
  redis.call('ZADD', waiting_key(destination), text(due), member)
end

local function end_lease(member)
  redis.call('ZREM', CALLS_LEASED, member)
  redis.call('HDEL', call_key(member), 'leased')
end

-- Gives back places at a destination.
local function free_up(destination, places)
  local key = destination_key(destination)
  if redis.call('HINCRBY', key, 'in_flight', -places) < 0 then redis.call('HSET', key, 'in_flight', 0) end
end

-- Counts more or fewer calls of a kind: `what` is 'calls', 'waiting', 'dead' or 'bytes'.
local function count(kind, what, more)
  if more ~= 0 then redis.call('HINCRBY', ROOM, kind .. ' ' .. what, more) end
end

local function count_state(kind, over, more)
  if not over then count(kind, 'waiting', more) end
  if over == 'dead' then count(kind, 'dead', more) end
end

-- Notes that more or fewer deliveries of a message are not over.
local function count_open(message, more)
  local key = message_key(message)
  if redis.call('EXISTS', key) == 0 then return end
  if redis.call('HINCRBY', key, 'open', more) <= 0 then
    redis.call('ZADD', P .. 'messages_closed', message, message)
  else
    redis.call('ZREM', P .. 'messages_closed', message)
  end
end

-- Takes a call away with all that is known of it.
local function forget(member)
  redis.call('ZREM', P .. 'calls_done', member)
  redis.call('ZREM', P .. 'calls_dead', member)
  redis.call('ZREM', CALLS, member)
  local c = redis.call('HMGET', call_key(member), 'kind', 'over', 'shared', 'message')
  if not c[1] then return end
  if c[4] and not c[2] then count_open(c[4], -1) end
  count(c[1], 'calls', -1)
  count(c[1], 'bytes', -redis.call('STRLEN', content_key(member)))
  count_state(c[1], c[2], -1)
  redis.call('DEL', call_key(member), content_key(member))
  if c[3] and redis.call('HINCRBY', title_key(c[3]), 'calls', -1) <= 0 then
    count('postback', 'bytes', -redis.call('HSTRLEN', title_key(c[3]), 'title'))
    redis.call('DEL', title_key(c[3]))
  end
end

-- The title of a call that has these fields: how long its own is, and the name of a shared one.
local function title_of(member, own, shared)
  if shared then return redis.call('HGET', title_key(shared), 'title') or '' end
  if (number(own) or 0) == 0 then return '' end
  return redis.call('GETRANGE', content_key(member), 0, own - 1)
end

local function content_of(member, own, message)
  if message then return redis.call('GET', P .. 'message_content:' .. message) or '' end
  return redis.call('GETRANGE', content_key(member), own, -1)
end

local STATUS_FIELDS = { 'kind', 'destination', 'over', 'leased', 'attempts', 'accepted',
  'status', 'reason', 'own', 'shared' }

-- A call as it stands: { client, id, kind, position, destination, over or '', leased or '', attempts, accepted,
-- due or '', status or '', reason, title }, or nil.
local function status_of(member)
  local c = redis.call('HMGET', call_key(member), unpack(STATUS_FIELDS))
  if not c[1] then return nil end
  local client, id = names_of(member)
  local due = redis.call('ZSCORE', waiting_key(c[2]), member)
  local position = text(number(redis.call('ZSCORE', CALLS, member)) or 0)
  return { client, id, c[1], position, c[2], c[3] or '', c[4] or '', c[5] or '0', c[6],
    due and text(tonumber(due)) or '', c[7] or '', c[8] or '', title_of(member, c[9], c[10]) }
end
