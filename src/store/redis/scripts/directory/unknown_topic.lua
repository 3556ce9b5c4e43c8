-- Whether topics exist; shared by subscribing in the home lane and by asking it before subscribing in
-- another one.

-- The first unknown one of the topics that are ARGV from `first` on, or nil if there is none. With a
-- maker they are made now, without a publisher, and none is unknown; unless the maker would then have
-- more than so many topics, which is false.
local function unknown_topic(first, maker, max)
  local unknown = {}
  for i = first, #ARGV do
    if redis.call('HEXISTS', P .. 'topics', ARGV[i]) == 0 then
      if not maker then return ARGV[i] end
      unknown[#unknown + 1] = ARGV[i]
    end
  end
  if #unknown == 0 then return nil end
  if topic_count(maker) + #unknown > max then return false end
  for _, topic in ipairs(unknown) do make_topic(topic, '', maker) end
end
