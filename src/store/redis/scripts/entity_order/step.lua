-- Records how far a worker has come with a window.
--
-- ARGV: subscriber, queue, fence, health, status of the last failure or '-', its reason or '', how many more events,
--       bytes of these at most, length of the lease from now on in ms, 1 if what failed before is over unless something is set aside, how
--       many places are done, these places, how many are set aside, for each its place and its entity, then for each entity that was set aside before: itself, how many of its events are done, 1 if the
--       next one becomes a dead letter, status and reason of that as above, attempts, ms until it is due.
-- Returns { fence from now on, 1 if the queue is paused, { entries that have come into the window… } }; nil if the lease is lost.

local token, now = ARGV[1], now_ms()
local key, list, entities = P .. 'subscriber:' .. token, P .. 'queue:' .. token, P .. 'entities:' .. token
local s = held(token, ARGV[2], ARGV[3], 'head', 'batch_last', 'health_restored', 'paused')
if not s then return nil end
local head = tonumber(s[1])
local window = tonumber(s[2]) - head + 1

local at = 11
local function argument()
  at = at + 1
  return ARGV[at - 1]
end
local gone, aside, last = {}, {}, 0
local function take(place)
  gone[place + 1] = true
  last = math.max(last, place + 1)
end
local done = tonumber(argument())
for _ = 1, done do take(tonumber(argument())) end
local set_aside = tonumber(argument())
for _ = 1, set_aside do
  local place, entity = tonumber(argument()), argument()
  take(place)
  aside[#aside + 1] = { place + 1, entity }
end

local entries = last > 0 and redis.call('LRANGE', list, 0, last - 1) or {}
for _, one in ipairs(aside) do
  if not redis.call('HGET', entities, one[2]) then redis.call('HSET', entities, one[2], text(now) .. ' 0') end
  redis.call('RPUSH', aside_list(token, one[2]), entries[one[1]])
end
if last > 0 then
  local stay = {}
  for place, entry in ipairs(entries) do
    if not gone[place] then stay[#stay + 1] = entry end
  end
  redis.call('LTRIM', list, last, -1)
  push_front(list, stay)
end
redis.call('HINCRBY', key, 'aside', set_aside)

local sent = done
while at <= #ARGV do
  local entity, finished, is_dead = argument(), tonumber(argument()), argument() == '1'
  local status, reason = argument(), argument()
  local attempts, due_in = argument(), tonumber(argument())
  sent = sent + finished
  redis.call('HSET', entities, entity, text(now + due_in) .. ' ' .. attempts)
  if is_dead then
    local dead = redis.call('LRANGE', aside_list(token, entity), finished, finished)
    bury(token, dead, now, 'refused', status, reason)
    finished = finished + #dead
  end
  if finished > 0 then take_aside(token, entity, finished) end
end

window, head = window - done - set_aside, head + done + set_aside
local more = read_entries(list, tonumber(ARGV[7]), tonumber(ARGV[8]), window)
local fence = text(math.max(tonumber(ARGV[3]) + 1, now_us()))
redis.call('HSET', key, 'head', text(head), 'batch_last', text(head + window + #more - 1), 'fence', fence)
redis.call('HINCRBY', key, 'sent', sent)
if not s[3] then redis.call('HSET', key, 'health', ARGV[4]) end
redis.call('HDEL', key, 'health_restored')
if ARGV[6] ~= '' then
  redis.call('HSET', key, 'last_failure', table.concat({ text(now), 1, ARGV[5], ARGV[6] }, ' '))
elseif ARGV[10] == '1' and tonumber(redis.call('HGET', key, 'aside')) == 0 then
  redis.call('HDEL', key, 'last_failure')
end
redis.call('ZADD', DUE, text(now + tonumber(ARGV[9])), token)
return { fence, s[4] and 1 or 0, more }
