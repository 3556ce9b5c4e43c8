-- Makes a publisher. ARGV: topic, kind and target, owner, how many the owner may have, what is kept of it,
-- 1 if it gets only what comes from now on. Returns its id, or 'unknown', 'taken' or 'too many'.

local topic = redis.call('HGET', TOPIC_NAMES, ARGV[1])
if not topic then return 'unknown' end
local target = topic .. ' ' .. ARGV[2]
local taken = redis.call('HGET', TARGETS, target)
if taken then
  -- It may be the asker's own, whose answer was lost: written again, replicas are waited for.
  redis.call('HSET', TARGETS, target, taken)
  return 'taken'
end
if not has_room(ARGV[3], 'publishers', ARGV[4]) then return 'too many' end
local id = redis.call('HINCRBY', IDS, 'publishers', 1)
redis.call('HSET', TARGETS, target, id)
redis.call('HSET', PUBLISHERS, id, table.concat({ ARGV[3], target, text(now_ms()), ARGV[5] }, '\n'))
count_for(ARGV[3], 'publishers', 1)
local is_behind = ARGV[6] ~= '1'
redis.call('HSET', P .. 'message_forwarders:' .. topic, id, is_behind and '0' or '')
if is_behind then redis.call('HSET', P .. 'messages_behind', id, topic) end
return id
