-- Forgets messages that still wait for nobody. ARGV: their numbers. Returns how many.

local behind, forgotten = {}, 0
for _, topic in ipairs(redis.call('HVALS', BEHIND)) do behind[topic] = true end
for _, message in ipairs(ARGV) do
  local is_closed = redis.call('ZSCORE', CLOSED, message)
  if is_closed and not behind[redis.call('HGET', message_key(message), 'topic')] then
    forget_message(message)
    forgotten = forgotten + 1
  end
end
return forgotten
