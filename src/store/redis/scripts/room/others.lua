-- What calls, messages and the journal take in a lane, which have room of their own. ARGV: overhead of a call in bytes,
-- of a message.

local taken = redis.call('MEMORY', 'USAGE', P .. 'journal') or 0
for _, kind in ipairs({ 'call', 'postback', 'unread', 'message' }) do
  local room = redis.call('HMGET', P .. 'call_room', kind .. ' calls', kind .. ' bytes')
  taken = taken + (number(room[2]) or 0) + tonumber(ARGV[1]) * (number(room[1]) or 0)
end
local messages = redis.call('HMGET', P .. 'message_room', 'messages', 'bytes')
return taken + (number(messages[2]) or 0) + tonumber(ARGV[2]) * (number(messages[1]) or 0)
