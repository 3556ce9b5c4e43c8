-- Keeps groups of calls, each as a whole or not at all.
--
-- ARGV: the time in ms after which nobody waits for the answer, or '', 1 to look only and keep nothing,
--       origin of the wake-up, bytes that calls may take, overhead of a call in bytes, how many are forgotten
--       for room at most, then for each group: n, and for each of its n calls client, id, fingerprint,
--       destination, content, 'in' or 'at', ms of that, kind, title, 1 if others share that.
-- Returns 'late' or 'full', and nothing was kept, or { how many dead ones were forgotten for room, for each
-- group one digit for each call: 1 kept, 0 known, 2 in conflict, and nothing of its group was kept… }.

local now = now_ms()
if ARGV[1] ~= '' and now > tonumber(ARGV[1]) then return 'late' end
local looks_only = ARGV[2] == '1'
local FIELDS, FIRST = 10, 7
local max_bytes, overhead = tonumber(ARGV[4]), tonumber(ARGV[5])

-- Forgets what is over if that makes room for so much more; how many dead ones that were, or nil, and
-- nothing was forgotten.
local function make_room(more)
  local taken = more
  for _, kind in ipairs({ 'call', 'postback', 'unread' }) do
    local room = redis.call('HMGET', ROOM, kind .. ' calls', kind .. ' bytes')
    taken = taken + (number(room[2]) or 0) + overhead * (number(room[1]) or 0)
  end
  local old, dead = {}, 0
  for _, over in ipairs({ 'done', 'dead' }) do
    if taken <= max_bytes then break end
    for _, member in ipairs(redis.call('ZRANGE', P .. 'calls_' .. over, 0, tonumber(ARGV[6]) - 1)) do
      if taken <= max_bytes then break end
      taken = taken - redis.call('STRLEN', content_key(member)) - overhead
      old[#old + 1] = member
      if over == 'dead' then dead = dead + 1 end
    end
  end
  if taken > max_bytes then return nil end
  for _, member in ipairs(old) do forget(member) end
  return dead
end

local function judge(from, n)
  local digits, seen, is_free = {}, {}, true
  for i = from, from + (n - 1) * FIELDS, FIELDS do
    local member = member_of(ARGV[i], ARGV[i + 1])
    local known = seen[member] or redis.call('HGET', call_key(member), 'fingerprint')
    if not known then
      digits[#digits + 1] = '1'
    elseif known == ARGV[i + 2] then
      digits[#digits + 1] = '0'
    else
      digits[#digits + 1], is_free = '2', false
    end
    seen[member] = ARGV[i + 2]
  end
  return digits, is_free
end

-- Positions grow with time, and no two calls of any lane have the same, of up to 16 lanes.
local added = {}
local last = number(redis.call('HGET', ROOM, 'last')) or 0
local lane = tonumber(string.match(P, '{(%d+)}')) % 16

local function next_position()
  local at = math.floor(now_us() / 16) * 16 + lane
  last = math.max(at, last + 16)
  return text(last)
end

local function share(title)
  local name = redis.sha1hex(title)
  if redis.call('HINCRBY', title_key(name), 'calls', 1) == 1 then
    redis.call('HSET', title_key(name), 'title', title)
    count('postback', 'bytes', #title)
  end
  return name
end

local function keep(i)
  local member, destination = member_of(ARGV[i], ARGV[i + 1]), ARGV[i + 3]
  local due = tonumber(ARGV[i + 6])
  if ARGV[i + 5] == 'in' then due = now + due else due = math.max(due, now) end
  local kind, title = ARGV[i + 7], ARGV[i + 8]
  local key = call_key(member)
  if ARGV[i + 9] == '1' then
    redis.call('HSET', key, 'shared', share(title))
    title = ''
  end
  redis.call('HSET', key, 'kind', kind, 'fingerprint', ARGV[i + 2], 'destination', destination,
    'accepted', text(now), 'own', #title)
  redis.call('SET', content_key(member), title .. ARGV[i + 4])
  redis.call('ZADD', CALLS, next_position(), member)
  wait_until(member, destination, due)
  added[kind] = added[kind] or { 0, 0 }
  added[kind][1], added[kind][2] = added[kind][1] + 1, added[kind][2] + #title + #ARGV[i + 4]
  return destination
end

local dead = 0
if not looks_only then
  local more, i = 0, FIRST
  while i <= #ARGV do
    local n = tonumber(ARGV[i])
    for c = i + 1, i + 1 + (n - 1) * FIELDS, FIELDS do
      local is_known = redis.call('EXISTS', call_key(member_of(ARGV[c], ARGV[c + 1]))) == 1
      if not is_known then more = more + #ARGV[c + 4] + #ARGV[c + 8] + overhead end
    end
    i = i + 1 + n * FIELDS
  end
  dead = make_room(more)
  if not dead then return 'full' end
end

local reply, touched = { dead }, {}
local i = FIRST
while i <= #ARGV do
  local n = tonumber(ARGV[i])
  local digits, is_free = judge(i + 1, n)
  if is_free and not looks_only then
    for c = 1, n do
      if digits[c] == '1' then touched[keep(i + 1 + (c - 1) * FIELDS)] = true end
    end
  end
  reply[#reply + 1] = table.concat(digits)
  i = i + 1 + n * FIELDS
end
for destination in pairs(touched) do reschedule(destination) end
for kind, more in pairs(added) do
  count(kind, 'calls', more[1])
  count(kind, 'waiting', more[1])
  count(kind, 'bytes', more[2])
end
if next(added) then redis.call('HSET', ROOM, 'last', text(last)) end
if next(touched) then redis.pcall('PUBLISH', P .. 'call_wake', ARGV[3] .. ':0') end
return reply
