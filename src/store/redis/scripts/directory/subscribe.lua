-- Makes a body the subscriber's whole subscription.
--
-- ARGV: subscriber, name for a new queue, what to do about unknown topics: 'create', 'refuse', or 'known'
--       outside of the home lane, where they were looked at before, callback, uuid, 1 if there
--       is a uuid, timeout, max, retention in ms, max_queued ('' is none, 'keep' what there is),
--       origin of the wake-up, ms after which a delivery to an old callback has been broken off,
--       how many topics one client may have, ms after which a failed batch is due with a new uuid, secrets, format,
--       refusals_max, parallel (as retention), topics…, where known each with its birth.
-- Returns { 'done' }, { 'unknown', topic }, { 'too many' }, or { 'too short', the retention that is kept }.

local token, callback, uuid, has_uuid = ARGV[1], ARGV[4], ARGV[5], ARGV[6] == '1'
local timeout, max = ARGV[7], ARGV[8]
local FIRST_TOPIC = 19

local key, list = P .. 'subscriber:' .. token, P .. 'queue:' .. token
local s = redis.call('HMGET', key, 'queue', 'callback', 'uuid', 'leased', 'batch_number',
  'keeps_pause', 'retention', 'max_queued', 'secrets', 'format', 'refusals_max', 'paused', 'parallel')
local function changed(wanted, old)
  if wanted == 'keep' then return old end
  return wanted ~= '' and wanted
end
local retention, max_queued = changed(ARGV[9], s[7]), changed(ARGV[10], s[8])
if retention and tonumber(retention) <= tonumber(timeout) then
  return { 'too short', tonumber(retention) }
end

local known = ARGV[3] == 'known'
if not known then
  local unknown = unknown_topic(FIRST_TOPIC, ARGV[3] == 'create' and token, tonumber(ARGV[13]))
  if unknown == false then return { 'too many' } end
  if unknown then return { 'unknown', unknown } end
end

if not s[1] then
  redis.call('HSET', key, 'queue', ARGV[2], 'health', 100, 'sent', 0, 'head', 1, 'fence', 0)
  redis.call('SADD', P .. 'subscribers', token)
end
redis.call('HSET', key, 'callback', callback, 'timeout', timeout, 'max', max)
local function set_or_clear(field, value)
  if value then redis.call('HSET', key, field, value) else redis.call('HDEL', key, field) end
end
set_or_clear('uuid', has_uuid and uuid)
set_or_clear('retention', retention)
set_or_clear('max_queued', max_queued)
set_or_clear('secrets', changed(ARGV[15], s[9]))
set_or_clear('format', changed(ARGV[16], s[10]))
set_or_clear('refusals_max', changed(ARGV[17], s[11]))
local parallel = changed(ARGV[18], s[13])
set_or_clear('parallel', parallel)
if s[13] and not parallel then
  -- What is set aside goes back to where it stood, before what came later.
  local aside = all_aside(token)
  local newest = #aside > 0 and position_of(aside[#aside]) or 0
  local older = count_to(list, newest)
  local window = older > 0 and redis.call('LRANGE', list, 0, older - 1) or {}
  for _, entry in ipairs(window) do aside[#aside + 1] = entry end
  table.sort(aside, function(one, other) return position_of(one) < position_of(other) end)
  redis.call('LTRIM', list, older, -1)
  push_front(list, aside)
  redis.call('HINCRBY', key, 'head', older - #aside)
  forget_aside(token)
  redis.call('HDEL', key, 'aside', 'leased', 'batch_number', 'batch_last', 'attempts')
  -- Deliveries that are on their way are broken off when their lease is not renewed.
  if s[4] then
    redis.call('HSET', key, 'keeps_pause', 1)
    redis.call('ZADD', DUE, text(now_ms() + tonumber(ARGV[12])), token)
  else
    redis.call('HDEL', key, 'keeps_pause')
    redis.call('ZREM', DUE, token)
  end
end
redis.call((retention or max_queued) and 'SADD' or 'SREM', P .. 'limited', token)

for _, topic in ipairs(redis.call('SMEMBERS', P .. 'topics_of:' .. token)) do
  redis.call('HDEL', P .. 'topic:' .. topic, token)
end
redis.call('DEL', P .. 'topics_of:' .. token)
for i = FIRST_TOPIC, #ARGV, known and 2 or 1 do
  put_subscribed(ARGV[i], token, callback == PULL and '0' or max, timeout, known and ARGV[i + 1] or '')
end

local now = now_ms()
local due
if s[1] and (s[2] ~= callback or s[3] ~= (has_uuid and uuid)) then
  redis.call('HSET', key, 'health', 100, 'health_restored', 1)
  local moved = s[2] ~= callback
  if s[4] and moved then
    -- The delivery to the old callback is broken off when its lease is not renewed.
    redis.call('HDEL', key, 'leased')
    due = now + tonumber(ARGV[12])
  elseif (s[5] or s[6]) and not s[4] then
    due = now
    if not moved then
      due = math.min(number(redis.call('ZSCORE', DUE, token)) or now, now + tonumber(ARGV[14]))
    end
  end
end
if callback == PULL and s[2] ~= PULL then redis.call('ZREM', DUE, token) end
if callback ~= PULL then redis.call('ZREM', P .. 'pulls_out', token) end
local is_paused = s[12] and not string.find(s[12], ' callback', 1, true)
if s[12] and not is_paused then
  let_go(token, now)
  due = number(redis.call('ZSCORE', DUE, token))
elseif (is_paused and not s[4]) or callback == PULL then
  due = nil
elseif not in_hand(token) then
  due = next_due(token, now, max, timeout)
end
if due then
  redis.call('ZADD', DUE, text(due), token)
  redis.pcall('PUBLISH', P .. 'wake', ARGV[11] .. ':0')
end
return { 'done' }
