-- Takes entries away. ARGV: their places. Returns how many were there.

return redis.call('XDEL', P .. 'journal', unpack(ARGV))
