-- Putting items at the end of one queue, after all that is there.

local function append_items(token, items, max, timeout, origin)
  local list, now = P .. 'queue:' .. token, now_ms()
  local last = number(redis.call('GET', P .. 'last_event')) or 0
  local position = math.max(last + 1, now_us())
  local before = redis.call('LLEN', list)
  for index, item in ipairs(items) do
    redis.call('RPUSH', list, string.format('%016.0f:', position + index - 1) .. item)
  end
  redis.call('SET', P .. 'last_event', text(position + #items - 1))
  if before == 0 then redis.pcall('PUBLISH', P .. 'arrivals', origin .. ' ' .. token) end
  local due = due_after_append(token, before, before + #items, now, tonumber(max), tonumber(timeout))
  if due then
    redis.call('ZADD', DUE, 'LT', text(due), token)
    redis.pcall('PUBLISH', P .. 'wake', origin .. ':' .. text(due - now))
  end
end
