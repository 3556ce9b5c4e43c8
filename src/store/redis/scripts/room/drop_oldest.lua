-- Drops the oldest items of queues, oldest first across them.
--
-- ARGV: bytes and items at most, overhead of an item in bytes, then for each queue that has to give:
--       subscriber, bytes of it at most.
-- Returns { { subscriber, items, bytes }… }.

local CHUNK_MAX = 64

local bytes, items, overhead = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()

-- A binary heap of queues, the one with the oldest next item on top.
local heap = {}

local function sift_down(i)
  while true do
    local least = i
    for child = 2 * i, 2 * i + 1 do
      if heap[child] and heap[child].stamp < heap[least].stamp then least = child end
    end
    if least == i then return end
    heap[i], heap[least] = heap[least], heap[i]
    i = least
  end
end

-- Looks at the next entry of a queue; false if there is none, or no more is to go.
local function look(queue)
  if queue.bytes >= queue.share then return false end
  local entry = queue.chunk[queue.at]
  if not entry then
    local from = queue.flying + queue.n
    queue.chunk = redis.call('LRANGE', queue.list, from, from + queue.chunk_size - 1)
    -- Of most queues only the first item is looked at.
    queue.chunk_size = math.min(queue.chunk_size * 4, CHUNK_MAX)
    queue.at, entry = 1, queue.chunk[1]
    if not entry then return false end
  end
  queue.stamp = string.sub(entry, 1, STAMP)
  queue.next_bytes = #entry - HEAD
  return true
end

local queues = {}
for i = 4, #ARGV, 2 do
  local token = ARGV[i]
  local queue = { token = token, list = P .. 'queue:' .. token, flying = in_flight(token),
    share = tonumber(ARGV[i + 1]), n = 0, bytes = 0, chunk = {}, chunk_size = 1, at = 1 }
  if look(queue) then
    heap[#heap + 1] = queue
    queues[#queues + 1] = queue
  end
end
for i = math.floor(#heap / 2), 1, -1 do sift_down(i) end
while bytes > 0 and items > 0 and heap[1] do
  local queue = heap[1]
  local size = queue.next_bytes + overhead
  queue.n, queue.bytes, queue.at = queue.n + 1, queue.bytes + size, queue.at + 1
  bytes, items = bytes - size, items - 1
  if not look(queue) then
    heap[1] = heap[#heap]
    heap[#heap] = nil
  end
  if heap[1] then sift_down(1) end
end

local reply = {}
for _, queue in ipairs(queues) do
  if queue.n > 0 then
    drop(queue.token, queue.flying, queue.n, 'autodropped', now)
    reply[#reply + 1] = { queue.token, queue.n, queue.bytes }
  end
end
return reply
