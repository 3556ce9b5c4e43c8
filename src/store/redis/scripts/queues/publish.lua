-- Appends a group of publications, in order, to the queues of their topics' subscribers.
--
-- ARGV: committer's slot, number of the commit, origin of the wake-up, time in ms after which
--       nobody waits for the answer, or '', the number of lanes in the home lane, which knows who
--       may publish and counts the events; 0 in another lane, where they are known to be allowed,
--       the positions of the first and the last entry, as the caller proposes them, how many topics one client may
--       have, how many publications of a client are stored once at most, and for how many ms, then for each run of publications with
--       the same topic and publisher: topic, publisher, or in another lane '<the topic's birth>:<last end of one of
--       that name>', what names it if it is to be stored once, or '', its fingerprint, its publisher in any lane, n,
--       n entries, with their positions in front.
-- Returns { one digit for each run (1 stored, 0 owned by another client, 2 too many topics, 3 stored before, 4 another
--           one was stored under its name), or 'late' and nothing was stored,
--           milliseconds until a queue is due, or -1, the time in ms,
--           what other lanes need, if there are any: birth and end for each run, with commas between,
--           the position of the first entry, the positions of those stored before, with commas between,
--           subscribers who ask for their batches, and for whom nothing waited, with spaces between }.
--
-- A committer that got no answer sends the same number again; the group is then not appended
-- twice. A command that waited in a server that hung comes late: its publishers have been told
-- that their events are not stored.

local slot, commit, origin, deadline = P .. 'commit:' .. ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local lanes, first, first_text, last_text = ARGV[5], tonumber(ARGV[6]), ARGV[6], ARGV[7]
local micros = now_us()
local now = math.floor(micros / 1000)
local stored = redis.call('MGET', slot, P .. 'last_event', P .. 'lanes')
if stored[1] then
  local number_before = string.match(stored[1], '^%d+')
  if number_before == commit then
    local result, births, first, firsts = string.match(stored[1], '^%d+:(%d*):?([^;]*);?(%d*);?(.*)$')
    return { result, 0, now, births, number(first) or 0, firsts, '' }
  end
  -- A copy that was on its way while newer commits overtook it; nobody waits for it.
  if tonumber(number_before) > tonumber(commit) then
    return redis.error_reply('ERR a later commit of this committer was stored already')
  end
end

if deadline ~= '' and now > tonumber(deadline) then return { 'late', -1, now, '', 0, '', '' } end

local SLOT_TTL_MS = 600000
local PUSH_MAX = 4000
-- By how many us the time that entries came with may be wrong.
local TOLERANCE = 50000

local is_home = lanes ~= '0'
local has_others = is_home and lanes ~= '1'
if is_home and stored[3] ~= lanes then
  local mismatch = keep_lane_count(lanes)
  if mismatch then return mismatch end
end
-- Positions must be larger than all before; where another committer was faster, entries get the next ones. In another
-- lane they are as the home lane gave them.
local last_event = number(stored[2]) or 0
local is_off = math.abs(micros - first) > TOLERANCE
local moved = is_home and (first <= last_event or is_off)
if moved then
  local entries = tonumber(last_text) - first + 1
  first = math.max(last_event + 1, is_off and micros or 0)
  first_text, last_text = text(first), text(first + entries - 1)
end
local max_topics = tonumber(ARGV[8])
local result, births, firsts, arrivals = '', {}, {}, {}
local earliest

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

-- Keeps the entries from ARGV[from] to ARGV[to], where their topic does that.
local function keep(topic, from, to)
  push(P .. 'kept:' .. topic, from, to)
  local bytes = 0
  -- As `kept_events/kept.lua` counts them.
  for j = from, to do bytes = bytes + #ARGV[j] + 20 end
  redis.call('HINCRBY', P .. 'kept_bytes', topic, bytes)
end

-- Takes note of what names a publication; or its position, if it was stored before, or '4'.
local function stored_before(name, fingerprint, client, position)
  local before = redis.call('GET', P .. 'once:' .. name)
  if before then
    local known, at = string.match(before, '^(.*):(%d+)$')
    return known == fingerprint and at or '4'
  end
  redis.call('SET', P .. 'once:' .. name, fingerprint .. ':' .. text(position), 'PX', ARGV[10])
  local names = P .. 'once_of:' .. client
  redis.call('PEXPIRE', names, ARGV[10])
  if redis.call('RPUSH', names, name) > tonumber(ARGV[9]) then
    redis.call('DEL', P .. 'once:' .. redis.call('LINDEX', names, 0))
    redis.call('LTRIM', names, 1, -1)
  end
  return nil
end

-- What is known of each topic: its publisher, its subscribers with their settings, whether it keeps its events.
local topics = {}
local function topic_of(name)
  local topic = topics[name]
  if not topic then
    topic = { subscribed = redis.call('HGETALL', P .. 'topic:' .. name) }
    if is_home then
      topic.owner = redis.call('HGET', P .. 'topics', name)
      topic.keeps = redis.call('HEXISTS', P .. 'keeps', name) == 1
    end
    topics[name] = topic
  end
  return topic
end

-- Appends the entries from ARGV[from] to ARGV[to], which begin at this position, to the queues of a topic's
-- subscribers, and to what it keeps. `births` is '<birth>:<last end>' of the topic in another lane than home.
local function append(name, topic, from, to, position, births)
  local subscribed, n = topic.subscribed, to - from + 1
  if moved and (subscribed[1] or topic.keeps) then
    for j = from, to do
      ARGV[j] = string.format('%016.0f', position + j - from) .. string.sub(ARGV[j], HEAD)
    end
  end
  if topic.keeps then keep(name, from, to) end
  local born, ended
  if not is_home then
    born, ended = string.match(births, '^(%d+):(%d+)$')
    born, ended = tonumber(born), tonumber(ended)
  end
  for s = 1, #subscribed, 2 do
    local token, settings = subscribed[s], subscribed[s + 1]
    if is_home or is_to(name, born, ended, token, settings) then
      local length = push(P .. 'queue:' .. token, from, to)
      local max, timeout = string.match(settings, '^(%d+):(%d+)')
      local due
      if max ~= '0' then
        due = due_after_append(token, length - n, length, now, tonumber(max), tonumber(timeout))
      elseif length == n then
        arrivals[#arrivals + 1] = token
      end
      if due then
        redis.call('ZADD', DUE, 'LT', text(due), token)
        if not earliest or due < earliest then earliest = due end
      end
    end
  end
end

local i, arguments = 11, #ARGV
local position = first
while i <= arguments do
  local name, publisher, key, n = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 5])
  local fingerprint, client = ARGV[i + 3], ARGV[i + 4]
  i = i + 6
  local topic = topic_of(name)
  local owner = publisher
  if is_home then
    if not topic.owner or topic.owner == '' then topic.owner = claim_topic(name, publisher, max_topics) end
    owner = topic.owner
    if has_others then births[#births + 1] = birth(name) .. ':' .. last_end(name) end
  end
  local before_at = key ~= '' and owner == publisher and stored_before(key, fingerprint, client, position)
  if not owner then
    result = result .. '2'
  elseif owner ~= publisher then
    result = result .. '0'
  elseif before_at then
    result = result .. (before_at == '4' and '4' or '3')
    if before_at ~= '4' then firsts[#firsts + 1] = before_at end
  else
    result = result .. '1'
    if n > 0 then append(name, topic, i, i + n - 1, position, publisher) end
    if is_home then redis.call('HINCRBY', P .. 'events', name, n) end
  end
  i = i + n
  position = position + n
end

if is_home then redis.call('SET', P .. 'last_event', last_text) end
local for_others, before, arrived = '', '', ''
if births[1] then for_others = table.concat(births, ',') end
if firsts[1] then before = table.concat(firsts, ',') end
redis.call('SET', slot, commit .. ':' .. result .. ':' .. for_others .. ';' .. first_text .. ';' .. before,
  'PX', SLOT_TTL_MS)
if arrivals[1] then
  arrived = table.concat(arrivals, ' ')
  redis.pcall('PUBLISH', P .. 'arrivals', origin .. ' ' .. arrived)
end
local delay = -1
if earliest then
  delay = earliest - now
  -- Behind another queue nobody need be woken: whoever looks at that one is told of this one then.
  local first_due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
  if tonumber(first_due) >= earliest then
    -- Refused, the wake-up is lost, and workers look a moment later; all else is done by now.
    redis.pcall('PUBLISH', P .. 'wake', origin .. ':' .. text(delay))
  end
end
return { result, delay, now, for_others, first, before, arrived }
