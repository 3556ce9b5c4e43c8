-- How many lanes there are, and in which format everything is kept. ARGV: how many there are to be if that
-- was not decided yet, 1 to decide it so, the format that the caller knows.
-- Returns the number, whether it is decided, and the format; an error if the format is newer.

local lanes, format = redis.call('GET', P .. 'lanes'), redis.call('GET', P .. 'format')
-- Before there was a mark, there was one format.
format = format or (lanes and '1' or ARGV[3])
if tonumber(format) > tonumber(ARGV[3]) then
  return redis.error_reply('FORMAT what is in Redis has format ' .. format .. ', and this program knows ' ..
    ARGV[3] .. ': run the newer program that made it')
end
if not lanes then
  lanes = ARGV[1]
  if ARGV[2] == '0' then return { tonumber(lanes), 0, tonumber(format) } end
  redis.call('SET', P .. 'lanes', lanes)
  redis.call('SET', P .. 'format', format)
end
return { tonumber(lanes), 1, tonumber(format) }
