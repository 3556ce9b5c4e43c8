-- A call as it stands. ARGV: client, id. Returns nil, or { destination, content, over or '', leased or '',
-- attempts, accepted, due or '', status or '', reason }.

local member = member_of(ARGV[1], ARGV[2])
local c = redis.call('HMGET', call_key(member), 'destination', 'content', 'over', 'leased', 'attempts',
  'accepted', 'status', 'reason')
if not c[1] then return nil end
local due = redis.call('ZSCORE', waiting_key(c[1]), member)
return { c[1], c[2], c[3] or '', c[4] or '', c[5], c[6], due and text(tonumber(due)) or '', c[7] or '',
  c[8] or '' }
