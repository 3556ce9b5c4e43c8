-- What messages and their deliveries have in common; shared by all scripts about them. It comes after `calls/call`.

local MESSAGES, CLOSED, MESSAGE_ROOM = P .. 'messages', P .. 'messages_closed', P .. 'message_room'
local BEHIND = P .. 'messages_behind'
local function message_content_key(number) return P .. 'message_content:' .. number end
local function topic_key(topic) return P .. 'messages_of:' .. topic end
local function forwarders_key(topic) return P .. 'message_forwarders:' .. topic end
local function delivery_of(number) return member_of('messages', number) end
local function destination_of(publisher) return 'publisher:' .. publisher end

-- Gives out so many numbers that grow with time; the first of them.
local function next_numbers(count)
  local first = math.max((number(redis.call('HGET', MESSAGE_ROOM, 'last')) or 0) + 1, now_us())
  redis.call('HSET', MESSAGE_ROOM, 'last', text(first + count - 1))
  return first
end

local function keep_delivery(delivery, publisher, message, now, due)
  local member, destination = delivery_of(delivery), destination_of(publisher)
  redis.call('HSET', call_key(member), 'kind', 'message', 'destination', destination,
    'accepted', text(now), 'message', message)
  wait_until(member, destination, due)
  return destination
end

-- The deliveries of a message: { { number, publisher }… }.
local function deliveries_of(message)
  local found = {}
  local kept = redis.call('HGET', message_key(message), 'deliveries') or ''
  for delivery, publisher in string.gmatch(kept, '(%d+):(%d+)') do
    found[#found + 1] = { delivery, publisher }
  end
  return found
end

-- Takes away what is known of a message itself.
local function drop_message(message)
  local key = message_key(message)
  local topic = redis.call('HGET', key, 'topic')
  if not topic then return false end
  redis.call('HINCRBY', MESSAGE_ROOM, 'messages', -1)
  redis.call('HINCRBY', MESSAGE_ROOM, 'bytes', -redis.call('STRLEN', message_content_key(message)))
  redis.call('DEL', key, message_content_key(message))
  redis.call('ZREM', MESSAGES, message)
  redis.call('ZREM', topic_key(topic), message)
  redis.call('ZREM', CLOSED, message)
  return true
end

-- Takes a message away that waits for nobody; how many of its deliveries had been given up on.
local function forget_message(message)
  local dead = 0
  for _, delivery in ipairs(deliveries_of(message)) do
    local member = delivery_of(delivery[1])
    if redis.call('HGET', call_key(member), 'over') == 'dead' then dead = dead + 1 end
    forget(member)
  end
  drop_message(message)
  return dead
end

-- The oldest messages that wait for nobody, also not for a publisher that begins in the past.
local function closed(at_most)
  local found, behind = {}, {}
  for _, topic in ipairs(redis.call('HVALS', BEHIND)) do behind[topic] = true end
  local all = next(behind) and 5000 or at_most
  for _, message in ipairs(redis.call('ZRANGE', CLOSED, 0, all - 1)) do
    if #found >= at_most then break end
    if not next(behind) or not behind[redis.call('HGET', message_key(message), 'topic')] then
      found[#found + 1] = message
    end
  end
  return found
end

-- A message as it stands: { number, topic, sender, received, due, content, { number, publisher, over, leased,
-- attempts, due, ended, status, reason }… }, or nil.
local function message_status(message)
  local m = redis.call('HMGET', message_key(message), 'topic', 'sender', 'received', 'due')
  if not m[1] then return nil end
  local content = redis.call('GET', message_content_key(message)) or ''
  local status = { message, m[1], m[2], m[3], m[4], content }
  for _, delivery in ipairs(deliveries_of(message)) do
    local member = delivery_of(delivery[1])
    local c = redis.call('HMGET', call_key(member), 'kind', 'over', 'leased', 'attempts', 'ended', 'status', 'reason')
    if c[1] then
      local due = redis.call('ZSCORE', waiting_key(destination_of(delivery[2])), member)
      status[#status + 1] = { delivery[1], delivery[2], c[2] or '', c[3] or '', c[4] or '0',
        due and text(tonumber(due)) or '', c[5] or '', c[6] or '', c[7] or '' }
    end
  end
  return status
end
