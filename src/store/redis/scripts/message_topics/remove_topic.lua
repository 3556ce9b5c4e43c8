-- Removes a topic. ARGV: id, its name, 1 if its publishers go with it.
-- Returns 'gone', 'unknown' or 'publishers', and it stays.

local kept = redis.call('HGET', TOPICS, ARGV[1])
if not kept then return 'unknown' end
local own = {}
local all = redis.call('HGETALL', TARGETS)
for i = 1, #all, 2 do
  if string.match(all[i], '^(%d+) ') == ARGV[1] then own[#own + 1] = all[i + 1] end
end
if #own > 0 and ARGV[3] ~= '1' then return 'publishers' end
for _, id in ipairs(own) do remove_publisher(id) end
redis.call('HDEL', TOPICS, ARGV[1])
redis.call('HDEL', TOPIC_NAMES, ARGV[2])
count_for(first_lines(kept), 'topics', -1)
return 'gone'
