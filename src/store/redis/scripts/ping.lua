-- Whether Redis takes changes: refused when it is out of memory, cannot persist, or is a replica.

return redis.call('SET', P .. 'ping', text(now_ms()), 'PX', 60000)
