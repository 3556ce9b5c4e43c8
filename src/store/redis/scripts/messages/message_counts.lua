-- What all messages come to. Returns { messages, bytes of their contents, deliveries }.

local room = redis.call('HMGET', MESSAGE_ROOM, 'messages', 'bytes')
return { number(room[1]) or 0, number(room[2]) or 0, number(redis.call('HGET', ROOM, 'message calls')) or 0 }
