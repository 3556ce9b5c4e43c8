-- Puts portions of batches of another bus at the end of a subscriber's queue.
--
-- ARGV: subscriber, origin of the wake-up, ms for which it is remembered what was taken, then for
--       each portion: batch, entries taken of it before, entries taken now, when it was begun in
--       ms, n, n items.
-- Returns { 1 appended, 0 taken before or -1 out of step, for each portion…,
--           milliseconds until the queue is due, or -1 }; nil if there is no such subscriber.

local token = ARGV[1]
local list, taken = P .. 'queue:' .. token, P .. 'imported:' .. token
local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'queue', 'max', 'timeout')
if not s[1] then return false end

local now = now_ms()
local last = redis.call('LINDEX', list, -1)
-- Times in a queue do not go backwards.
local earliest = last and tonumber(string.sub(last, 1, STAMP)) or 0
local reply, appended = {}, false

local i = 4
while i <= #ARGV do
  local batch, from, entries = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local n = tonumber(ARGV[i + 4])
  local known = redis.call('HGET', taken, batch) or '0:0'
  local before, items = string.match(known, '^(%d+):(%d+)$')
  before, items = tonumber(before), tonumber(items)
  if before >= from + entries then
    reply[#reply + 1] = 0
  elseif before ~= from then
    reply[#reply + 1] = -1
  else
    earliest = math.max(earliest, math.min(now, tonumber(ARGV[i + 3])))
    local stamp = string.format('%0' .. STAMP .. '.0f', earliest)
    local stamped = {}
    for j = 1, n do stamped[j] = stamp .. ARGV[i + 4 + j] end
    if n > 0 then redis.call('RPUSH', list, unpack(stamped)) end
    redis.call('HSET', taken, batch, text(from + entries) .. ':' .. text(items + n))
    reply[#reply + 1] = 1
    appended = true
  end
  i = i + 5 + n
end

local due_in = -1
if appended then
  redis.call('PEXPIRE', taken, ARGV[3])
  if not in_hand(token) then
    local due = next_due(token, now, s[2], s[3])
    if due then
      -- Not later than it was: a queue that has been due for long is the next one's turn.
      redis.call('ZADD', DUE, 'LT', text(due), token)
      due_in = text(math.max(0, due - now))
      redis.pcall('PUBLISH', P .. 'wake', ARGV[2] .. ':' .. due_in)
    end
  end
end
reply[#reply + 1] = due_in
return reply
