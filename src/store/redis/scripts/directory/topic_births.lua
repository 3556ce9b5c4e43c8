-- When topics were made, as the home lane knows it. ARGV: topics…
-- Returns { the birth of each, '' of one that is unknown }.

local births = {}
for i = 1, #ARGV do
  local known = redis.call('HEXISTS', P .. 'topics', ARGV[i]) == 1
  births[i] = known and birth(ARGV[i]) or ''
end
return births
