-- Shared by all scripts. KEYS[1] is the prefix of all keys of a lane; it carries the hash tag. No key
-- has that very name: so, while a Cluster moves the lane from one node to another, and each has a part
-- of the keys, it answers ASK to every script instead of running it.
--
-- Of the home lane alone:
-- <p>lanes                 string  how many lanes there are
-- <p>format                string  in which format everything is kept; none is 1 (`lanes/lanes.lua`)
-- <p>topics                hash    topic -> publisher's token, '' while nobody has published
-- <p>events                hash    topic -> events ever received
-- <p>births                hash    topic -> when it was made, in ever larger numbers
-- <p>deleted:<topic>       string  when one of that name was last deleted, in the same numbers, until the
--                                  key expires
-- <p>makers                hash    topic that nobody has published to -> who made it by subscribing
-- <p>topic_counts          hash    client -> how many topics it is the publisher or the maker of, once
--                                  that was asked for
-- <p>keeps                 hash    topic -> '<ms> <bytes>', what it keeps of its events
-- <p>kept:<topic>          list    what it has kept, as the entries of a queue
-- <p>kept_bytes            hash    topic -> what that takes
-- <p>last_birth            string  the largest of them
-- <p>api_tokens            hash    token -> service name, and of one of several of a client also its first one and
--                                  until when it is good, or '-', with spaces between
-- <p>client_secrets        hash    client -> what its calls are signed with
-- <p>message_topics         hash    id -> owner, when it was made, JSON, a line each
-- <p>message_topic_names    hash    name -> id
-- <p>message_publishers     hash    id -> owner, '<topic id> <kind> <target>', when it was made, JSON
-- <p>message_targets        hash    '<topic id> <kind> <target>' -> id
-- <p>message_ids            hash    topics, publishers: the last ids that were given
-- <p>message_counts         hash    '<client> topics', '<client> publishers' -> how many it has
-- <p>message_forwarders:<topic id> hash  publisher -> the last message that it has been given, while it is behind,
--                                  or ''
-- <p>messages_behind       hash    publisher that is behind -> id of its topic
-- <p>message_discards      set     publishers that are gone, and for which something waits
-- <p>message:<n>           hash    topic sender received due open deliveries: '<number>:<publisher>'…, promised,
--                                  the same for publishers that were behind
-- <p>message_content:<n>   string  what it says
-- <p>messages, messages_of:<topic id>, messages_closed zset  message -> its number; the last have those that
--                                  wait for nobody
-- <p>message_room          hash    last (number), messages, bytes
-- <p>messages_once         zset    what names messages that are kept once -> when they were
-- <p>message_commit:<slot> string  number and result of the last commit of one committer
-- <p>duty:<duty>           string  the process that does it, until the key expires
-- <p>tally:<length>:<start> hash   subject -> '<volume> <success> <failure> <waited> <queued>', until the key expires
-- <p>tally_subjects        zset    subject -> when something was last counted for it
-- <p>processes             hash    process -> what it says of itself, as JSON
-- <p>draining              set     processes that are to deliver nothing more
-- <p>present               zset    process -> until when it is there unless it says so again
--
-- Of each lane:
-- <p>topic:<topic>         hash    subscriber -> '<max>:<timeout>', what publishing needs of it, and in
--                                  other lanes than home ':' and the topic's birth, if it is known
-- <p>subscribers           set     tokens
-- <p>limited               set     tokens of subscribers with a retention or a max_queued
-- <p>subscriber:<token>    hash    queue callback uuid timeout max retention max_queued health
--                                  sent autodropped expired head
--                                  fence leased batch_number batch_last attempts keeps_pause
--                                  health_restored
--                                  secrets format refusals_max
--                                  parallel: how many batches are out at once, in the order of entities
--                                  aside: how many events are set aside
--                                  paused: '<ms> <by>'
--                                  callback is 'pull:' where the subscriber asks for its batches: such a queue is
--                                  never in `due`
--                                  refusals: of the batch; suspect_last, next_max: while the event is looked for
--                                  that is refused, as on SQLite
--                                  last_failure: '<ms> <attempt> <status or -> <reason>'
-- <p>entities:<token>      hash    entity that is set aside -> '<ms when it is due> <attempts>'
-- <p>aside:<token>:<entity> list   its entries
-- <p>topics_of:<token>     set     topics of a subscription
-- <p>queue:<token>         list    entries: 16 digits of the event's position, which is its time in microseconds,
--                                  a colon, and the item; in what is older, or was imported, 13 digits of
--                                  milliseconds and the item
-- <p>last_event            string  the largest position that was given, or has come to this lane
-- <p>once:<name>           string  '<fingerprint>:<position>' of a publication that is stored once, until the
--                                  key expires
-- <p>once_of:<client>      list    the names of those that a client has published
-- <p>dead_items            hash    number -> an event that is a dead letter, as dead.lua writes it
-- <p>dead_of:<token>       zset    number of a subscriber's dead letter -> its event's position
-- <p>dead_events           zset    number of a dead letter -> when it became one
-- <p>dead_room             hash    events, bytes, last (number)
-- <p>imported:<token>      hash    batch of another bus -> '<entries>:<items>' that were taken of it;
--                                  expires some time after the last import
-- <p>pulls_out             zset    subscriber that pulls -> until when its batch is out
-- <p>due                   zset    subscriber -> when a worker should look at its queue: when its
--                                  batch is to leave or, while it is leased, when the lease ends
-- <p>commit:<slot>         string  number and result of the last commit of one committer
-- <p>claim:<claimer>       string  number of its last claim that found something, then subscriber and
--                                  fence of each lease; expires with them
-- <p>call:<client>/<id>    hash    kind fingerprint destination accepted own shared; later attempts fence
--                                  leased cancelled over status reason; deliveries of messages, of the
--                                  client `messages`, also message ended
-- <p>call_content:<client>/<id> string  its title (`own` bytes) and its content
-- <p>call_title:<hash>      hash    title, calls that share it
-- <p>calls                  zset    call but a delivery -> its position
-- <p>calls_waiting:<destination> zset  call -> when it is to be made
-- <p>destinations_due      zset    destination -> when its first call that waits is
-- <p>destination:<destination> hash  in_flight, failures in a row
-- <p>calls_leased          zset    call -> when its lease ends
-- <p>calls_done, calls_dead zset   call -> when it ended
-- <p>call_room             hash    calls, bytes that their contents take
-- <p>calls_claim:<claimer> string  as <p>claim:<claimer>
-- <p>ping                  string  when /pulse last asked
-- <p>clock                 string  what the clock showed at a claim not long ago
--
-- `head` counts the items that ever left the queue, and so numbers the first one in the list.
-- The batch that was given out and is not acknowledged is `head` to `batch_last`; `batch_number`
-- names it. `keeps_pause` marks a queue that lost such a batch, or a part of it. `health_restored` says
-- that its subscriber got full health during a delivery, whose end then does not change it.

local P = KEYS[1]

-- Digits of the time in ms at the beginning of each entry of a queue, and where the item begins.
local STAMP = 13
local HEAD = 17
local DUE = P .. 'due'

local function now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function now_ms()
  return math.floor(now_us() / 1000)
end

local function number(value)
  return value and tonumber(value) or nil
end

local function text(value)
  return string.format('%.0f', value)
end

-- Where the event of an entry stands among all; of what has only its time, the first that there may be then.
local function position_of(entry)
  if string.byte(entry, HEAD) == 58 then return tonumber(string.sub(entry, 1, HEAD - 1)) end
  return tonumber(string.sub(entry, 1, STAMP)) * 1000
end

local function item_of(entry)
  return string.sub(entry, (string.byte(entry, HEAD) == 58 and HEAD or STAMP) + 1)
end
