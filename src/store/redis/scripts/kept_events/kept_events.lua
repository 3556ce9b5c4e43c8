-- What topics have kept behind a position. ARGV: the position, how many at most, topics… Returns the entries, in order.

return kept_of_all(3, tonumber(ARGV[1]), tonumber(ARGV[2]))
