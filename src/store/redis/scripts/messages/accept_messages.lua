-- Keeps groups of messages, each as a whole or not at all.
--
-- ARGV: committer's slot, number of the commit, the time in ms after which nobody waits for the answer, or '', origin
--       of the wake-up, bytes that messages may take, overhead of a message in bytes, of a delivery, how many are
--       forgotten for room at most, how long is known in ms what names messages that are kept once, then for
--       each group: topic, sender, when it is due in ms, or 0, what names it or '', the one
--       publisher that forwards it or '', n, n contents.
-- Returns 'late', and nothing was kept, or { how many messages were forgotten for room, how many deliveries of them
-- had been given up on, for each group 'unknown' if its topic is not known, 'known' if what names it is, 'full', or { number of the first message, how
-- many deliveries each has: their numbers follow its own }… }.
--
-- A committer that got no answer sends the same number again; the groups are then not kept twice.

local SLOT_TTL_MS = 60000
local slot, commit = P .. 'message_commit:' .. ARGV[1], ARGV[2]
local last = redis.call('GET', slot)
if last then
  local before, result = string.match(last, '^(%d+):(.*)$')
  if before == commit then return cjson.decode(result) end
  if tonumber(before) > tonumber(commit) then
    return redis.error_reply('ERR a later commit of this committer was stored already')
  end
end

local now = now_ms()
if ARGV[3] ~= '' and now > tonumber(ARGV[3]) then return 'late' end
local max_bytes, overhead, delivery_overhead = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local ONCE = P .. 'messages_once'
local left_to_forget = tonumber(ARGV[8])
local forgotten, dead, touched = 0, 0, {}

local function taken()
  local room = redis.call('HMGET', MESSAGE_ROOM, 'messages', 'bytes')
  local deliveries = number(redis.call('HGET', ROOM, 'message calls')) or 0
  return (number(room[2]) or 0) + overhead * (number(room[1]) or 0) + delivery_overhead * deliveries
end

local function make_room(more)
  while taken() + more > max_bytes do
    local old = closed(math.min(100, left_to_forget))
    if #old == 0 then return false end
    for _, message in ipairs(old) do
      if taken() + more <= max_bytes then return true end
      dead = dead + forget_message(message)
      forgotten, left_to_forget = forgotten + 1, left_to_forget - 1
    end
  end
  return true
end

-- The publishers of a topic, by id: { { id, whether it gets what comes }… }.
local function forwarders_of(topic, only)
  local found, kept = {}, redis.call('HGETALL', forwarders_key(topic))
  for f = 1, #kept, 2 do
    if only == '' or only == kept[f] then
      found[#found + 1] = { id = kept[f], is_live = kept[f + 1] == '' }
    end
  end
  table.sort(found, function(a, b) return tonumber(a.id) < tonumber(b.id) end)
  return found
end

local function keep(i, n)
  local topic = redis.call('HGET', P .. 'message_topic_names', ARGV[i])
  if not topic then return 'unknown' end
  local once = ARGV[i + 3]
  if once ~= '' then
    redis.call('ZREMRANGEBYSCORE', ONCE, '-inf', text(now - tonumber(ARGV[9])))
    if redis.call('ZSCORE', ONCE, once) then return 'known' end
  end
  local forwarders, bytes = forwarders_of(topic, ARGV[i + 4]), 0
  for c = i + 6, i + 5 + n do bytes = bytes + #ARGV[c] end
  if not make_room(bytes + n * (overhead + #forwarders * delivery_overhead)) then return 'full' end
  if once ~= '' then redis.call('ZADD', ONCE, text(now), once) end
  local each = 1 + #forwarders
  local first = next_numbers(each * n)
  local due, kept_deliveries = math.max(now, tonumber(ARGV[i + 2])), 0
  for m = 1, n do
    local at = first + (m - 1) * each
    local message, content = text(at), ARGV[i + 5 + m]
    local deliveries, promised, open = {}, {}, 0
    for f, forwarder in ipairs(forwarders) do
      local delivery = text(at + f)
      local pair = delivery .. ':' .. forwarder.id
      if forwarder.is_live then
        deliveries[#deliveries + 1], open = pair, open + 1
        touched[keep_delivery(delivery, forwarder.id, message, now, due)] = true
      else
        promised[#promised + 1] = pair
      end
    end
    local key = message_key(message)
    redis.call('HSET', key, 'topic', topic, 'sender', ARGV[i + 1], 'received', text(now), 'due', text(due),
      'open', open, 'deliveries', table.concat(deliveries, ' '))
    if #promised > 0 then redis.call('HSET', key, 'promised', table.concat(promised, ' ')) end
    redis.call('SET', message_content_key(message), content)
    redis.call('ZADD', MESSAGES, message, message)
    redis.call('ZADD', topic_key(topic), message, message)
    if open == 0 then redis.call('ZADD', CLOSED, message, message) end
    kept_deliveries = kept_deliveries + open
  end
  redis.call('HINCRBY', MESSAGE_ROOM, 'messages', n)
  redis.call('HINCRBY', MESSAGE_ROOM, 'bytes', bytes)
  count('message', 'calls', kept_deliveries)
  count('message', 'waiting', kept_deliveries)
  return { text(first), #forwarders }
end

local groups, i = {}, 10
while i <= #ARGV do
  local n = tonumber(ARGV[i + 5])
  groups[#groups + 1] = keep(i, n)
  i = i + 6 + n
end
local reply = { forgotten, dead, unpack(groups) }
for destination in pairs(touched) do reschedule(destination) end
redis.call('SET', slot, commit .. ':' .. cjson.encode(reply), 'PX', SLOT_TTL_MS)
if next(touched) then redis.pcall('PUBLISH', P .. 'call_wake', ARGV[4] .. ':0') end
return reply
