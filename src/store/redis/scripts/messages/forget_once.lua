-- Forgets what named messages that were kept once. ARGV: the names. Returns how many were known.

return redis.call('ZREM', P .. 'messages_once', unpack(ARGV))
