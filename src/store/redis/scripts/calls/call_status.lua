-- A call as it stands. ARGV: client, id. Returns nil, or its status and, after that, its content.

local member = member_of(ARGV[1], ARGV[2])
local status = status_of(member)
if not status then return nil end
local c = redis.call('HMGET', call_key(member), 'own', 'message')
status[#status + 1] = content_of(member, c[1], c[2])
return status
