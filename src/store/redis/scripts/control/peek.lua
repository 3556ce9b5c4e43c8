-- What waits in a queue. ARGV: subscriber, position, how many at most, 'behind' the position or from what stands 'at' it.
-- Returns { how many of them are in the batch that was given out, entries… }; nil if there is no such subscriber.

local token, list = ARGV[1], P .. 'queue:' .. ARGV[1]
local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'queue', 'head', 'batch_last', 'parallel', 'aside')
if not s[1] then return false end
local from = count_to(list, tonumber(ARGV[2]))
if ARGV[4] == 'at' then from = math.max(0, from - 1) end
local reply = { 0 }
if s[3] and not s[4] then reply[1] = math.max(0, tonumber(s[3]) - tonumber(s[2]) + 1 - from) end
local entries = redis.call('LRANGE', list, from, from + tonumber(ARGV[3]) - 1)
if (number(s[5]) or 0) > 0 then
  local first = tonumber(ARGV[2]) + (ARGV[4] == 'at' and 0 or 1)
  for _, entry in ipairs(all_aside(token)) do
    if position_of(entry) >= first then entries[#entries + 1] = entry end
  end
  table.sort(entries, function(one, other) return position_of(one) < position_of(other) end)
end
for index, entry in ipairs(entries) do
  if index > tonumber(ARGV[3]) then break end
  reply[#reply + 1] = entry
end
return reply
