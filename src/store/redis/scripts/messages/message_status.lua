-- A message as it stands. ARGV: its number, or that of one of its deliveries. Returns nil, or its status.

local of_delivery = redis.call('HGET', call_key(delivery_of(ARGV[1])), 'message')
return message_status(of_delivery or ARGV[1])
