-- Gives publishers that begin in the past some of what they lack. ARGV: how many deliveries each is given ahead, how many
-- at once, origin of the wake-up. Returns how many in all.

local ahead, at_once, given = tonumber(ARGV[1]), tonumber(ARGV[2]), 0
local now = now_ms()

local function promised_to(publisher, message)
  local kept = redis.call('HGET', message_key(message), 'promised') or ''
  for delivery, other in string.gmatch(kept, '(%d+):(%d+)') do
    if other == publisher then return delivery end
  end
end

local function give(publisher, message)
  local key = message_key(message)
  local delivery = promised_to(publisher, message) or text(next_numbers(1))
  local m = redis.call('HMGET', key, 'due', 'deliveries')
  keep_delivery(delivery, publisher, message, now, tonumber(m[1]))
  local pair = delivery .. ':' .. publisher
  redis.call('HSET', key, 'deliveries', m[2] == '' and pair or m[2] .. ' ' .. pair)
  redis.call('HINCRBY', key, 'open', 1)
  redis.call('ZREM', CLOSED, message)
end

local behind = redis.call('HGETALL', BEHIND)
for i = 1, #behind, 2 do
  local publisher, topic = behind[i], behind[i + 1]
  local destination = destination_of(publisher)
  local room = math.min(ahead - redis.call('ZCARD', waiting_key(destination)), at_once)
  if room > 0 then
    local after = redis.call('HGET', forwarders_key(topic), publisher)
    local next_ones = redis.call('ZRANGEBYSCORE', topic_key(topic), '(' .. after, '+inf', 'LIMIT', 0, room)
    for _, message in ipairs(next_ones) do give(publisher, message) end
    count('message', 'calls', #next_ones)
    count('message', 'waiting', #next_ones)
    given = given + #next_ones
    reschedule(destination)
    -- One that lacks nothing any more gets what comes like all others.
    local is_all = #next_ones < room
    redis.call('HSET', forwarders_key(topic), publisher, is_all and '' or next_ones[#next_ones])
    if is_all then redis.call('HDEL', BEHIND, publisher) end
  end
end
if given > 0 then redis.pcall('PUBLISH', P .. 'call_wake', ARGV[3] .. ':0') end
return given
