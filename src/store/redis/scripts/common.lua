-- Shared by all scripts. KEYS[1] is the prefix of all keys of a lane; it carries the hash tag.
--
-- <p>topics                hash    topic -> publisher's token, '' while nobody has published
-- <p>events                hash    topic -> events ever received
-- <p>topic:<topic>         hash    subscriber -> '<max>:<timeout>', what publishing needs of it
-- <p>subscribers           set     tokens
-- <p>subscriber:<token>    hash    queue callback uuid timeout max health sent head
--                                  fence leased batch_first batch_len attempts
-- <p>topics_of:<token>     set     topics of a subscription
-- <p>queue:<token>         list    entries: 13 digits of milliseconds, then the item
-- <p>due                   zset    subscriber -> when a worker should look at its queue: when its
--                                  batch is to leave or, while it is leased, when the lease ends
-- <p>commit:<slot>         string  number and result of the last commit of one committer
-- <p>api_tokens            hash    token -> service name
--
-- `head` counts the items that ever left the queue, and so numbers the first one in the list.
-- `batch_first`, `batch_len`: the batch that was given out and is not acknowledged.

local P = KEYS[1]
local DUE = P .. 'due'

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function number(value)
  return value and tonumber(value) or nil
end

local function text(value)
  return string.format('%.0f', value)
end
