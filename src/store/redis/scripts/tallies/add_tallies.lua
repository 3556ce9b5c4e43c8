-- Adds what passed to a bucket of each length. ARGV: now, how many subjects are counted at most, when one must have
-- been counted last to stay, in ms; for each of the three lengths the end of the bucket's key and for how long
-- it is kept; then for each subject its name, volume, success, failure, waited, queued.

local subjects, at_most = P .. 'tally_subjects', tonumber(ARGV[2])

local function is_admitted(subject)
  if not redis.call('ZSCORE', subjects, subject) and redis.call('ZCARD', subjects) >= at_most then
    redis.call('ZREMRANGEBYSCORE', subjects, '-inf', '(' .. ARGV[3])
    if redis.call('ZCARD', subjects) >= at_most then return false end
  end
  redis.call('ZADD', subjects, ARGV[1], subject)
  return true
end

local function add(bucket, subject, at)
  local sums = {}
  for sum in string.gmatch(redis.call('HGET', bucket, subject) or '0 0 0 0 0', '%d+') do
    sums[#sums + 1] = tonumber(sum)
  end
  for i = 1, 4 do sums[i] = sums[i] + tonumber(ARGV[at + i]) end
  sums[5] = math.max(sums[5], tonumber(ARGV[at + 5]))
  for i = 1, 5 do sums[i] = text(sums[i]) end
  redis.call('HSET', bucket, subject, table.concat(sums, ' '))
end

for at = 10, #ARGV, 6 do
  if is_admitted(ARGV[at]) then
    for length = 4, 8, 2 do add(P .. 'tally:' .. ARGV[length], ARGV[at], at) end
  end
end
for length = 4, 8, 2 do
  redis.call('PEXPIRE', P .. 'tally:' .. ARGV[length], ARGV[length + 1])
end
