-- What all calls of a kind come to. ARGV: kind. Returns { waiting, dead, bytes }.

local counts = redis.call('HMGET', ROOM, ARGV[1] .. ' waiting', ARGV[1] .. ' dead', ARGV[1] .. ' bytes')
return { number(counts[1]) or 0, number(counts[2]) or 0, number(counts[3]) or 0 }
