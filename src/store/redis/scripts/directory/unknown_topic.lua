-- Whether topics exist; shared by subscribing in the home lane and by asking it before subscribing in
-- another one.

-- The first unknown one of the topics that are ARGV from `first` on, unless all are to be made now,
-- without a publisher; nil if there is none.
local function unknown_topic(first, create)
  for i = first, #ARGV do
    if redis.call('HEXISTS', P .. 'topics', ARGV[i]) == 0 then
      if not create then return ARGV[i] end
      make_topic(ARGV[i], '')
    end
  end
end
