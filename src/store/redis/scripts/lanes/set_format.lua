-- Marks in which format everything is kept. ARGV: the format.

redis.call('SET', P .. 'format', ARGV[1])
