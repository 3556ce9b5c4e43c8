-- When topics were made; shared by what makes them and what asks for it. Across lanes nothing is
-- atomic: by its birth, another lane knows a topic from one of the same name that was deleted.

-- Makes a topic that does not exist, in the home lane.
local function make_topic(topic, publisher)
  local first = text(now_us())
  if redis.call('SET', P .. 'first_birth', first, 'NX') then
    redis.call('SET', P .. 'last_birth', first)
  end
  redis.call('HSET', P .. 'births', topic, text(redis.call('INCR', P .. 'last_birth')))
  redis.call('HSET', P .. 'topics', topic, publisher)
end

-- When a topic of the home lane was made; 0 is when nobody took note of that.
local function birth(topic)
  return redis.call('HGET', P .. 'births', topic) or '0'
end
