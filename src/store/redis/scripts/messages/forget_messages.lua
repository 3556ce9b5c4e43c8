-- Forgets messages that wait for nobody. ARGV: those that came before this time in ms, how many at most.
-- Returns { how many, how many of their deliveries had been given up on }.

local messages, dead = 0, 0
for _, message in ipairs(closed(tonumber(ARGV[2]))) do
  local received = number(redis.call('HGET', message_key(message), 'received')) or 0
  if received >= tonumber(ARGV[1]) then break end
  messages, dead = messages + 1, dead + forget_message(message)
end
return { messages, dead }
