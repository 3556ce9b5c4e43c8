-- Dead letters, the newest first. ARGV: a subscriber, or '' for all, the number before which they are, or '', how many
-- at most, the time in ms at which they became dead letters at the latest, or ''.
-- Returns { { number, token, position, ms, cause, status or '-', reason, item }… }.
--
-- A subscriber's are found by walking over all, newest first, because numbers are not in order of positions.

local LOOK_MAX = 20000

local token, before, limit = ARGV[1], number(ARGV[2]) or math.huge, tonumber(ARGV[3])
local latest = number(ARGV[4]) or math.huge
local reply = {}

local function take(dead)
  local row = dead_row(dead)
  if row and tonumber(row[4]) <= latest then reply[#reply + 1] = row end
end

if token ~= '' then
  local own = redis.call('ZRANGE', P .. 'dead_of:' .. token, 0, -1)
  table.sort(own, function(one, other) return tonumber(one) > tonumber(other) end)
  for _, dead in ipairs(own) do
    if #reply >= limit then break end
    if tonumber(dead) < before then take(dead) end
  end
  return reply
end
local dead = math.min(before - 1, number(redis.call('HGET', P .. 'dead_room', 'last')) or 0)
for n = dead, math.max(1, dead - LOOK_MAX), -1 do
  if #reply >= limit then break end
  take(text(n))
end
return reply
