-- Delete dead letters for good.
--
-- KEYS  1 dead  2 run (optional): the replay to another queue that they are counted in, by fingerprint
-- ARGV  1 result prefix, '' when the stored outcomes stay
--       2 TTL ms of the run
--       3.. pairs: dead letter id, task id
-- Returns how many were there and deleted; what was replayed or purged before is passed over.
local groups = KEYS[1] .. ':groups'
local gone = 0
for i = 3, #ARGV, 2 do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    redis.call('XDEL', KEYS[1], ARGV[i])
    local group = entry[2][5] == 'g' and entry[2][6] or ''
    if group ~= '' and redis.call('HINCRBY', groups, 'n:' .. group, -1) <= 0 then
      redis.call('HDEL', groups, 'n:' .. group, 'l:' .. group, 'f:' .. group, 'e:' .. group)
    end
    if ARGV[1] ~= '' then redis.call('DEL', ARGV[1] .. ARGV[i + 1]) end
    if KEYS[2] then redis.call('HINCRBY', KEYS[2], 'replayed:' .. group, 1) end
    gone = gone + 1
  end
end
if gone > 0 then
  if KEYS[2] then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
  if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', groups) end
end
return gone
