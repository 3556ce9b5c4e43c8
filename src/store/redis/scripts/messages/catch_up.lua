-- Gives a publisher that begins in the past some of what it lacks. ARGV: its id, how many deliveries it is given ahead, how
-- many at once, origin of the wake-up, then for each message that is brought from history: number, topic, sender, when it
-- was received, when it was due, content. Returns how many.

local publisher, ahead, at_once = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local FIRST, FIELDS = 5, 6
local topic = redis.call('HGET', BEHIND, publisher)
if not topic then return 0 end
local now, destination = now_ms(), destination_of(publisher)
local room = math.min(ahead - redis.call('ZCARD', waiting_key(destination)), at_once)
if room <= 0 then return 0 end
local caught_up_to = redis.call('HGET', forwarders_key(topic), publisher)

local function bring_back(i)
  local message = ARGV[i]
  if redis.call('EXISTS', message_key(message)) == 1 then return end
  redis.call('HSET', message_key(message), 'topic', ARGV[i + 1], 'sender', ARGV[i + 2], 'received', ARGV[i + 3],
    'due', ARGV[i + 4], 'open', 0, 'deliveries', '')
  redis.call('SET', message_content_key(message), ARGV[i + 5])
  redis.call('ZADD', MESSAGES, message, message)
  redis.call('ZADD', topic_key(topic), message, message)
  redis.call('HINCRBY', MESSAGE_ROOM, 'messages', 1)
  redis.call('HINCRBY', MESSAGE_ROOM, 'bytes', #ARGV[i + 5])
end

local function promised(message)
  local kept = redis.call('HGET', message_key(message), 'promised') or ''
  for delivery, other in string.gmatch(kept, '(%d+):(%d+)') do
    if other == publisher then return delivery end
  end
end

local function give(message)
  local key = message_key(message)
  local delivery = promised(message) or text(next_numbers(1))
  local m = redis.call('HMGET', key, 'due', 'deliveries', 'received')
  local due = tonumber(m[1])
  -- What nobody scheduled is due now, also if the clock has been set back since it came.
  if due <= tonumber(m[3]) then due = math.min(due, now) end
  keep_delivery(delivery, publisher, message, now, due)
  local pair = delivery .. ':' .. publisher
  redis.call('HSET', key, 'deliveries', m[2] == '' and pair or m[2] .. ' ' .. pair)
  redis.call('HINCRBY', key, 'open', 1)
  redis.call('ZREM', CLOSED, message)
end

local is_from_history = #ARGV >= FIRST
local next_ones = {}
if is_from_history then
  for i = FIRST, #ARGV, FIELDS do
    if tonumber(ARGV[i]) > tonumber(caught_up_to) and #next_ones < room then
      bring_back(i)
      next_ones[#next_ones + 1] = ARGV[i]
    end
  end
else
  next_ones = redis.call('ZRANGEBYSCORE', topic_key(topic), '(' .. caught_up_to, '+inf', 'LIMIT', 0, room)
end
for _, message in ipairs(next_ones) do give(message) end
count('message', 'calls', #next_ones)
count('message', 'waiting', #next_ones)
reschedule(destination)
-- One that lacks nothing any more gets what comes like all others.
local is_all = not is_from_history and #next_ones < room
redis.call('HSET', forwarders_key(topic), publisher, is_all and '' or (next_ones[#next_ones] or caught_up_to))
if is_all then redis.call('HDEL', BEHIND, publisher) end
if #next_ones > 0 then redis.pcall('PUBLISH', P .. 'call_wake', ARGV[4] .. ':0') end
return #next_ones
