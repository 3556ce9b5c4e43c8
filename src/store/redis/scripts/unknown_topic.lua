-- Whether topics exist; shared by subscribing in the home lane and by asking it before subscribing in
-- another one.

-- The first unknown one of the topics that are ARGV from `first` on; nil if there is none. `about`
-- is 'create' to make them all, without a publisher, or 'refuse'.
local function unknown_topic(first, about)
  for i = first, #ARGV do
    if about == 'create' then
      redis.call('HSETNX', P .. 'topics', ARGV[i], '')
    elseif redis.call('HEXISTS', P .. 'topics', ARGV[i]) == 0 then
      return ARGV[i]
    end
  end
end
