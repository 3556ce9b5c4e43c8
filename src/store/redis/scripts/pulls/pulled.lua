-- The batch that a subscriber has pulled; shared by what it may do with it.

-- What is kept of a queue that its subscriber pulls from; nil if there is none such.
local function pull_queue(token)
  local s = redis.call('HMGET', P .. 'subscriber:' .. token, 'callback', 'queue', 'paused', 'batch_number', 'batch_last',
    'head', 'attempts', 'leased')
  return s[1] == 'pull:' and s or nil
end

-- Events and attempts of this batch of a queue, if it is the one that was given out.
local function is_batch(s, queue, batch)
  if not s or s[2] ~= queue or s[4] ~= batch then return nil end
  return tonumber(s[5]) - tonumber(s[6]) + 1, tonumber(s[7] or 1)
end

local function give_back(token)
  redis.call('HDEL', P .. 'subscriber:' .. token, 'leased')
  redis.call('ZREM', P .. 'pulls_out', token)
end

local function acknowledge(token, s, events)
  local key = P .. 'subscriber:' .. token
  if events > 0 then
    redis.call('LTRIM', P .. 'queue:' .. token, events, -1)
    redis.call('HINCRBY', key, 'sent', events)
    redis.call('HSET', key, 'head', text(tonumber(s[6]) + events))
  end
  redis.call('HDEL', key, 'batch_number', 'batch_last', 'attempts', 'last_failure', 'refusals', 'next_max',
    'keeps_pause')
  give_back(token)
end
