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

-- Makes a topic that does not exist, in the home lane.
local function make_topic(topic, publisher)
  redis.call('HSET', P .. 'births', topic, next_birth())
  redis.call('HSET', P .. 'topics', topic, publisher)
end

-- The publisher of a topic of the home lane; this one if it has none, or is not there and is made now.
local function claim_topic(topic, publisher)
  local owner = redis.call('HGET', P .. 'topics', topic)
  if not owner then
    make_topic(topic, publisher)
  elseif owner == '' then
    redis.call('HSET', P .. 'topics', topic, publisher)
  else
    return owner
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
