-- Delete dead letters for good.
--
-- KEYS  1 dead  2 run (optional): the replay to another queue that they are counted in, by fingerprint
-- ARGV  1 result prefix, '' when the stored outcomes stay
--       2 TTL ms of the run
--       3.. triples: dead letter id, its group ('' for none), task id
-- Returns how many were there and deleted; what was replayed or purged before is skipped.
-- include uncount
local gone, left, outcomes = 0, {}, {}
for i = 3, #ARGV, 3 do
  if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 then
    local group = ARGV[i + 1]
    gone = gone + 1
    left[group] = (left[group] or 0) + 1
    outcomes[gone] = ARGV[1] .. ARGV[i + 2]
  end
end
if gone == 0 then return 0 end
if ARGV[1] ~= '' then redis.call('DEL', unpack(outcomes)) end
if KEYS[2] then
  for group, count in pairs(left) do redis.call('HINCRBY', KEYS[2], 'replayed:' .. group, count) end
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
uncount(KEYS[1], left)
return gone
