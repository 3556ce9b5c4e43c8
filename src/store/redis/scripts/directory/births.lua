-- When topics were made and deleted; shared by what does so and what asks for it. Across lanes nothing
-- is atomic: by these numbers, another lane tells a topic from one of the same name that was deleted.

-- How long a deletion is known. Lanes that it did not come to by then take no part in it.
local DELETED_TTL_MS = 30 * 86400000

-- A number larger than any before; by the clock, should some of these have been lost.
local function next_birth()
  local key = P .. 'last_birth'
  local birth = text(math.max(now_us(), (number(redis.call('GET', key)) or 0) + 1))
  redis.call('SET', key, birth)
  return birth
end

-- How many topics a client is the publisher of, or has made by subscribing.
local function topic_count(client)
  local known = redis.call('HGET', P .. 'topic_counts', client)
  if known then return tonumber(known) end
  local count = 0
  for _, key in ipairs({ P .. 'topics', P .. 'makers' }) do
    for _, owner in ipairs(redis.call('HVALS', key)) do
      if owner == client then count = count + 1 end
    end
  end
  redis.call('HSET', P .. 'topic_counts', client, count)
  return count
end

local function count_topic(client, by)
  if redis.call('HEXISTS', P .. 'topic_counts', client) == 1 then
    redis.call('HINCRBY', P .. 'topic_counts', client, by)
  end
end

-- Makes a topic that does not exist, in the home lane. It has a publisher, or '' and somebody who made it
-- by subscribing.
local function make_topic(topic, publisher, maker)
  redis.call('HSET', P .. 'births', topic, next_birth())
  redis.call('HSET', P .. 'topics', topic, publisher)
  if maker then redis.call('HSET', P .. 'makers', topic, maker) end
  count_topic(maker or publisher, 1)
end

-- The topic is not its maker's any more.
local function forget_maker(topic)
  local maker = redis.call('HGET', P .. 'makers', topic)
  if maker then
    count_topic(maker, -1)
    redis.call('HDEL', P .. 'makers', topic)
  end
end

-- The publisher of a topic of the home lane; this one if it has none, or is not there and is made now.
-- False if this one would then have more than so many topics, if there is such a limit.
local function claim_topic(topic, publisher, max)
  local owner = redis.call('HGET', P .. 'topics', topic)
  if owner and owner ~= '' then return owner end
  local is_maker = redis.call('HGET', P .. 'makers', topic) == publisher
  if max and not is_maker and topic_count(publisher) >= max then return false end
  if not owner then
    make_topic(topic, publisher)
  else
    forget_maker(topic)
    redis.call('HSET', P .. 'topics', topic, publisher)
    count_topic(publisher, 1)
  end
  return publisher
end

-- When a topic of the home lane was made; 0 is when nobody took note of that.
local function birth(topic)
  return redis.call('HGET', P .. 'births', topic) or '0'
end

-- When one of this name was last deleted; 0 is never.
local function last_end(topic)
  return redis.call('GET', P .. 'deleted:' .. topic) or '0'
end
