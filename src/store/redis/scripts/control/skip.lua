-- Takes what stands at the head of a queue out of it, and keeps it as dead letters.
--
-- ARGV: subscriber, 'through' and the position of the last event, or 'batch' and the number of the batch, how many at
--       most of the former, ms after which an attempt that is on its way has been broken off, origin of the wake-up.
-- Returns { 'done', events, 1 if there are more }, or { 'unknown' }, or { 'not this batch' }.

local token, list, now = ARGV[1], P .. 'queue:' .. ARGV[1], now_ms()
local key = P .. 'subscriber:' .. token
local s = redis.call('HMGET', key, 'queue', 'head', 'batch_number', 'batch_last', 'leased', 'last_failure',
  'max', 'timeout', 'paused', 'keeps_pause', 'callback', 'parallel', 'aside')
if not s[1] then return { 'unknown' } end
local count, step
if ARGV[2] == 'batch' then
  if s[12] or s[3] ~= ARGV[3] then return { 'not this batch' } end
  -- A batch goes as a whole: what is left of it would be another one.
  count = tonumber(s[4]) - tonumber(s[2]) + 1
  step = count
else
  count = count_to(list, tonumber(ARGV[3]))
  step = math.min(count, tonumber(ARGV[4]))
end
local status, reason = '-', ''
if s[6] then status, reason = string.match(s[6], '^%d+ %d+ (%S+) (.*)$') end
local skipped = 0
if ARGV[2] == 'through' and (number(s[13]) or 0) > 0 then
  for _, entity in ipairs(redis.call('HKEYS', P .. 'entities:' .. token)) do
    local dead = {}
    for _, entry in ipairs(redis.call('LRANGE', aside_list(token, entity), 0, -1)) do
      if position_of(entry) > tonumber(ARGV[3]) then break end
      dead[#dead + 1] = entry
    end
    bury(token, dead, now, 'skipped', status, reason)
    if #dead > 0 then take_aside(token, entity, #dead) end
    skipped = skipped + #dead
  end
end
if step + skipped == 0 then return { 'done', 0, 0 } end
bury(token, step > 0 and redis.call('LRANGE', list, 0, step - 1) or {}, now, 'skipped', status, reason)
redis.call('LTRIM', list, step, -1)
redis.call('HINCRBY', key, 'head', step)
redis.call('HDEL', key, 'leased', 'batch_number', 'batch_last', 'attempts', 'refusals', 'suspect_last', 'next_max',
  'last_failure')
redis.call('ZREM', P .. 'pulls_out', token)
if s[5] and s[11] ~= 'pull:' then
  -- An attempt that is on its way is broken off when its lease is not renewed; what comes behind must not overtake it.
  redis.call('HSET', key, 'keeps_pause', 1)
  if not s[9] then redis.call('ZADD', DUE, text(now + tonumber(ARGV[5])), token) end
elseif s[3] then
  redis.call('HDEL', key, 'keeps_pause')
end
if not in_hand(token) then
  local due = next_due(token, now, s[7], s[8])
  if due then redis.call('ZADD', DUE, text(due), token) else redis.call('ZREM', DUE, token) end
end
redis.pcall('PUBLISH', P .. 'wake', ARGV[6] .. ':0')
return { 'done', step + skipped, count > step and 1 or 0 }
