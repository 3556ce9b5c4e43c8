-- Appends a group of publications, in order, to the queues of their topics' subscribers.
--
-- ARGV: committer's slot, number of the commit, origin of the wake-up, time in ms after which
--       nobody waits for the answer, or '', the number of lanes in the home lane, which knows who
--       may publish and counts the events; 0 in another lane, where they are known to be allowed,
--       the time in ms as the caller knows it, how many topics one client may have, then for each run of publications with the same topic
--       and publisher: topic, publisher, or in another lane '<the topic's birth>:<last end of one of that
--       name>', n, n entries with that time in front.
-- Returns { one digit for each run (1 stored, 0 owned by another client, 2 too many topics), or 'late' and
--           nothing was stored,
--           milliseconds until a queue is due, or -1, the time in ms,
--           what other lanes need, if there are any: birth and end for each run, with commas between }.
--
-- A committer that got no answer sends the same number again; the group is then not appended
-- twice. A command that waited in a server that hung comes late: its publishers have been told
-- that their events are not stored.

local slot, commit, origin, deadline = P .. 'commit:' .. ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now = now_ms()
local last = redis.call('GET', slot)
if last then
  local number_before, result_before, births_before = string.match(last, '^(%d+):(%d*):?(.*)$')
  if number_before == commit then return { result_before, 0, text(now), births_before } end
  -- A copy that was on its way while newer commits overtook it; nobody waits for it.
  if tonumber(number_before) > tonumber(commit) then
    return redis.error_reply('ERR a later commit of this committer was stored already')
  end
end

if deadline ~= '' and now > tonumber(deadline) then return { 'late', -1, text(now), '' } end

local SLOT_TTL_MS = 600000
local PUSH_MAX = 4000
-- By how many ms the time that entries came with may be wrong.
local STAMP_TOLERANCE = 50

local stamp = text(now)
local is_home, has_others = ARGV[5] ~= '0', tonumber(ARGV[5]) > 1
local mismatch = is_home and keep_lane_count(ARGV[5])
if mismatch then return mismatch end
local wrong_stamp = math.abs(now - tonumber(ARGV[6])) > STAMP_TOLERANCE
local owners, received, subscribers = {}, {}, {}
local settings, before, after, order = {}, {}, {}, {}
local results, births = {}, {}

-- Appends the entries from ARGV[from] to ARGV[to]; returns how many are in the list then.
local function push(list, from, to)
  local length
  for first = from, to, PUSH_MAX do
    length = redis.call('RPUSH', list, unpack(ARGV, first, math.min(first + PUSH_MAX - 1, to)))
  end
  return length
end

-- Whether a subscription in another lane is to the topic of this birth. One to a topic of that name which
-- was deleted ends here, if the deletion has not come to this lane yet.
local function is_to(topic, born, ended, token, subscribed)
  local known = subscribed_birth(subscribed)
  if known < ended then
    forget_subscribed(topic, token)
    return false
  end
  return known <= born
end

local max_topics = tonumber(ARGV[7])
local i = 8
while i <= #ARGV do
  local topic, publisher, n = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  i = i + 2
  local owner = publisher
  if is_home then
    owner = owners[topic] or claim_topic(topic, publisher, max_topics)
    owners[topic] = owner or nil
    if has_others then births[#births + 1] = birth(topic) .. ':' .. last_end(topic) end
  end
  if not owner then
    results[#results + 1] = '2'
  elseif owner ~= publisher then
    results[#results + 1] = '0'
  else
    results[#results + 1] = '1'
    received[topic] = (received[topic] or 0) + n
    local subscribed = subscribers[topic]
    if not subscribed then
      subscribed = redis.call('HGETALL', P .. 'topic:' .. topic)
      subscribers[topic] = subscribed
    end
    if wrong_stamp and #subscribed > 0 then
      for j = i + 1, i + n do ARGV[j] = stamp .. string.sub(ARGV[j], STAMP + 1) end
    end
    local born, ended
    if not is_home then
      born, ended = string.match(publisher, '^(%d+):(%d+)$')
      born, ended = tonumber(born), tonumber(ended)
    end
    for s = 1, #subscribed, 2 do
      local token = subscribed[s]
      if is_home or is_to(topic, born, ended, token, subscribed[s + 1]) then
        local length = push(P .. 'queue:' .. token, i + 1, i + n)
        if not before[token] then
          before[token], settings[token] = length - n, subscribed[s + 1]
          order[#order + 1] = token
        end
        after[token] = length
      end
    end
  end
  i = i + n + 1
end

local earliest
for _, token in ipairs(order) do
  local max, timeout = string.match(settings[token], '^(%d+):(%d+)')
  local due = due_after_append(token, before[token], after[token], now, tonumber(max),
    tonumber(timeout))
  if due then
    redis.call('ZADD', DUE, text(due), token)
    if not earliest or due < earliest then earliest = due end
  end
end

if is_home then
  for topic, n in pairs(received) do redis.call('HINCRBY', P .. 'events', topic, n) end
end
local result, for_others = table.concat(results), table.concat(births, ',')
redis.call('SET', slot, commit .. ':' .. result .. ':' .. for_others, 'PX', SLOT_TTL_MS)
if not earliest then return { result, -1, text(now), for_others } end
local delay = text(earliest - now)
-- Refused, the wake-up is lost, and workers look a moment later; all else is done by now.
redis.pcall('PUBLISH', P .. 'wake', origin .. ':' .. delay)
return { result, delay, text(now), for_others }
