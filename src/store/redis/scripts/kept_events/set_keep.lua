-- Says how much a topic keeps from now on. ARGV: topic, ms, bytes, or '' for nothing, its owner or '' for anybody's,
-- bytes that all topics may keep. Returns 'done', 'unknown', 'owned' or 'no room'.

local topic, owner = ARGV[1], ARGV[4]
local publisher = redis.call('HGET', P .. 'topics', topic)
if not publisher then return 'unknown' end
if owner ~= '' and owner ~= publisher then return 'owned' end
if ARGV[3] == '' then
  redis.call('HDEL', P .. 'keeps', topic)
  return 'done'
end
local all = tonumber(ARGV[3])
local keeps = redis.call('HGETALL', P .. 'keeps')
for i = 1, #keeps, 2 do
  if keeps[i] ~= topic then all = all + tonumber(string.match(keeps[i + 1], ' (%d+)$')) end
end
if all > tonumber(ARGV[5]) then return 'no room' end
redis.call('HSET', P .. 'keeps', topic, ARGV[2] .. ' ' .. ARGV[3])
return 'done'
