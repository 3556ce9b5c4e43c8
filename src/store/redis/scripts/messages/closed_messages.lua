-- Messages after a number that wait for nobody, and of which nothing was given up, the oldest first. ARGV: the number, how
-- many at most, how many bytes of contents at most. Returns their statuses.

local behind = {}
for _, topic in ipairs(redis.call('HVALS', BEHIND)) do behind[topic] = true end
local reply, bytes = {}, 0

local function is_dead(message)
  for _, delivery in ipairs(deliveries_of(message)) do
    if redis.call('HGET', call_key(delivery_of(delivery[1])), 'over') == 'dead' then return true end
  end
  return false
end

for _, message in ipairs(redis.call('ZRANGEBYSCORE', CLOSED, '(' .. ARGV[1], '+inf', 'LIMIT', 0, 5000)) do
  if #reply >= tonumber(ARGV[2]) then break end
  if not behind[redis.call('HGET', message_key(message), 'topic')] and not is_dead(message) then
    bytes = bytes + redis.call('STRLEN', message_content_key(message))
    if bytes > tonumber(ARGV[3]) and #reply > 0 then break end
    reply[#reply + 1] = message_status(message)
  end
end
return reply
