-- Makes a topic. ARGV: name, owner, how many the owner may have, what is kept of it.
-- Returns its id, or 'taken' or 'too many'.

local taken = redis.call('HGET', TOPIC_NAMES, ARGV[1])
if taken then
  -- It may be the asker's own, whose answer was lost: written again, replicas are waited for.
  redis.call('HSET', TOPIC_NAMES, ARGV[1], taken)
  return 'taken'
end
if not has_room(ARGV[2], 'topics', ARGV[3]) then return 'too many' end
local id = redis.call('HINCRBY', IDS, 'topics', 1)
redis.call('HSET', TOPIC_NAMES, ARGV[1], id)
redis.call('HSET', TOPICS, id, ARGV[2] .. '\n' .. text(now_ms()) .. '\n' .. ARGV[4])
count_for(ARGV[2], 'topics', 1)
return id
