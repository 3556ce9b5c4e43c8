-- Messages below a number, the newest first. ARGV: the number, id of their topic or '', how many at most, how many bytes
-- of contents at most. Returns their statuses.

local set = ARGV[2] == '' and MESSAGES or topic_key(ARGV[2])
local reply, bytes = {}, 0
for _, message in ipairs(redis.call('ZREVRANGEBYSCORE', set, '(' .. ARGV[1], '-inf', 'LIMIT', 0, ARGV[3])) do
  bytes = bytes + redis.call('STRLEN', message_content_key(message))
  if bytes > tonumber(ARGV[4]) and #reply > 0 then break end
  reply[#reply + 1] = message_status(message)
end
return reply
