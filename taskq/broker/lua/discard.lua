-- Delete dead letters for good.
--
-- KEYS  1 dead  2 run (optional): the replay to another queue that they are counted in, by fingerprint
-- ARGV  1 result prefix, '' when the stored outcomes stay
--       2 TTL ms of the run
--       3.. triples: dead letter id, its group ('' for none), task id
-- Returns how many were there and deleted; what was replayed or purged before is passed over.
local groups = KEYS[1] .. ':groups'
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
for group, count in pairs(left) do
  if group ~= '' and redis.call('HINCRBY', groups, 'n:' .. group, -count) <= 0 then
    redis.call('HDEL', groups, 'n:' .. group, 'l:' .. group, 'f:' .. group, 'e:' .. group)
  end
  if KEYS[2] then redis.call('HINCRBY', KEYS[2], 'replayed:' .. group, count) end
end
if KEYS[2] then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', groups) end
return gone
