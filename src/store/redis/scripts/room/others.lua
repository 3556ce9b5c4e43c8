-- What calls, messages, dead letters, kept events and the journal take in a lane, which have room of their own.
-- ARGV: overhead of a call in bytes, of a message, of its delivery.

local taken = redis.call('MEMORY', 'USAGE', P .. 'journal') or 0
taken = taken + (number(redis.call('HGET', P .. 'dead_room', 'bytes')) or 0)
for _, bytes in ipairs(redis.call('HVALS', P .. 'kept_bytes')) do taken = taken + tonumber(bytes) end
for _, kind in ipairs({ 'call', 'postback', 'unread', 'message' }) do
  local overhead = tonumber(kind == 'message' and ARGV[3] or ARGV[1])
  local room = redis.call('HMGET', P .. 'call_room', kind .. ' calls', kind .. ' bytes')
  taken = taken + (number(room[2]) or 0) + overhead * (number(room[1]) or 0)
end
local messages = redis.call('HMGET', P .. 'message_room', 'messages', 'bytes')
return taken + (number(messages[2]) or 0) + tonumber(ARGV[2]) * (number(messages[1]) or 0)
