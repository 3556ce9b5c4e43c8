-- Appends a group of publications, in order, to the queues of their topics' subscribers.
--
-- ARGV: committer's slot, number of the commit, origin of the wake-up, time in ms after which
--       nobody waits for the answer, or '', the number of lanes in the home lane, which knows who
--       may publish and counts the events; 0 in another lane, where they are known to be allowed,
--       the position of the first entry, as the caller proposes it, how many topics one client may have, how many
--       publications of a client are stored once at most, and for how many ms, then for each run of publications with
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
local now = now_ms()
local last = redis.call('GET', slot)
if last then
  local number_before, result, births, first, firsts =
    string.match(last, '^(%d+):(%d*):?([^;]*);?(%d*);?(.*)$')
  if number_before == commit then return { result, 0, text(now), births, first, firsts, '' } end
  -- A copy that was on its way while newer commits overtook it; nobody waits for it.
  if tonumber(number_before) > tonumber(commit) then
    return redis.error_reply('ERR a later commit of this committer was stored already')
  end
end

if deadline ~= '' and now > tonumber(deadline) then return { 'late', -1, text(now), '', '0', '', '' } end

local SLOT_TTL_MS = 600000
local PUSH_MAX = 4000
-- By how many us the time that entries came with may be wrong.
local TOLERANCE = 50000

local is_home, has_others = ARGV[5] ~= '0', tonumber(ARGV[5]) > 1
local mismatch = is_home and keep_lane_count(ARGV[5])
if mismatch then return mismatch end
-- Positions must be larger than all before; where another committer was faster, entries get others. In another lane
-- they are as the home lane gave them.
local first, last_event = tonumber(ARGV[6]), number(redis.call('GET', P .. 'last_event')) or 0
local moved = is_home and (first <= last_event or math.abs(now * 1000 - first) > TOLERANCE)
if moved then first = math.max(last_event + 1, now_us()) end
local owners, received, subscribers = {}, {}, {}
local settings, before, after, order = {}, {}, {}, {}
local results, births, firsts = {}, {}, {}
local position = first

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
local keeping = {}
local function keep(topic, from, to)
  push(P .. 'kept:' .. topic, from, to)
  local bytes = 0
  -- As `kept_events/kept.lua` counts them.
  for j = from, to do bytes = bytes + #ARGV[j] + 20 end
  redis.call('HINCRBY', P .. 'kept_bytes', topic, bytes)
end

-- Takes note of what names a publication; or its position, if it was stored before, or '4'.
local function stored_before(name, fingerprint, client)
  local before = redis.call('GET', P .. 'once:' .. name)
  if before then
    local known, at = string.match(before, '^(.*):(%d+)$')
    return known == fingerprint and at or '4'
  end
  redis.call('SET', P .. 'once:' .. name, fingerprint .. ':' .. text(position), 'PX', ARGV[9])
  local names = P .. 'once_of:' .. client
  redis.call('PEXPIRE', names, ARGV[9])
  if redis.call('RPUSH', names, name) > tonumber(ARGV[8]) then
    redis.call('DEL', P .. 'once:' .. redis.call('LINDEX', names, 0))
    redis.call('LTRIM', names, 1, -1)
  end
  return nil
end

local max_topics = tonumber(ARGV[7])
local i = 10
while i <= #ARGV do
  local topic, publisher, name, n = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 5])
  local fingerprint, client = ARGV[i + 3], ARGV[i + 4]
  i = i + 5
  local owner = publisher
  if is_home then
    owner = owners[topic] or claim_topic(topic, publisher, max_topics)
    owners[topic] = owner or nil
    if has_others then births[#births + 1] = birth(topic) .. ':' .. last_end(topic) end
  end
  local before_at = owner == publisher and name ~= '' and stored_before(name, fingerprint, client)
  if not owner then
    results[#results + 1] = '2'
  elseif owner ~= publisher then
    results[#results + 1] = '0'
  elseif before_at then
    results[#results + 1] = before_at == '4' and '4' or '3'
    if before_at ~= '4' then firsts[#firsts + 1] = before_at end
  else
    results[#results + 1] = '1'
    received[topic] = (received[topic] or 0) + n
    local subscribed = subscribers[topic]
    if not subscribed then
      subscribed = redis.call('HGETALL', P .. 'topic:' .. topic)
      subscribers[topic] = subscribed
    end
    if is_home and keeping[topic] == nil then
      keeping[topic] = redis.call('HEXISTS', P .. 'keeps', topic) == 1
    end
    if moved and (#subscribed > 0 or keeping[topic]) then
      for j = 1, n do
        ARGV[i + j] = string.format('%016.0f', position + j - 1) .. string.sub(ARGV[i + j], HEAD)
      end
    end
    if keeping[topic] and n > 0 then keep(topic, i + 1, i + n) end
    local born, ended
    if not is_home then
      born, ended = string.match(publisher, '^(%d+):(%d+)$')
      born, ended = tonumber(born), tonumber(ended)
    end
    for s = 1, n > 0 and #subscribed or 0, 2 do
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
  position = position + n
end
if is_home then redis.call('SET', P .. 'last_event', text(position - 1)) end

local earliest
local arrivals = {}
for _, token in ipairs(order) do
  local max, timeout = string.match(settings[token], '^(%d+):(%d+)')
  if max == '0' and before[token] == 0 then arrivals[#arrivals + 1] = token end
  local due = max ~= '0' and due_after_append(token, before[token], after[token], now, tonumber(max),
    tonumber(timeout))
  if due then
    redis.call('ZADD', DUE, 'LT', text(due), token)
    if not earliest or due < earliest then earliest = due end
  end
end

if is_home then
  for topic, n in pairs(received) do redis.call('HINCRBY', P .. 'events', topic, n) end
end
local result, for_others = table.concat(results), table.concat(births, ',')
first, firsts = text(first), table.concat(firsts, ',')
redis.call('SET', slot, table.concat({ commit, result, for_others }, ':') .. ';' .. first .. ';' .. firsts,
  'PX', SLOT_TTL_MS)
arrivals = table.concat(arrivals, ' ')
if arrivals ~= '' then redis.pcall('PUBLISH', P .. 'arrivals', origin .. ' ' .. arrivals) end
if not earliest then return { result, -1, text(now), for_others, first, firsts, arrivals } end
local delay = text(earliest - now)
-- Refused, the wake-up is lost, and workers look a moment later; all else is done by now.
redis.pcall('PUBLISH', P .. 'wake', origin .. ':' .. delay)
return { result, delay, text(now), for_others, first, firsts, arrivals }
