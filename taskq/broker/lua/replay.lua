-- Put dead letters back into their queue, each at most once.
--
-- KEYS  1 dead  2 what the queue's keys begin with  3 levels  4 result prefix
--       5 run (optional): where it is counted, by fingerprint
-- ARGV  1 wake channel  2 default level  3 most of one fingerprint that the run may put back, '' for no limit
--       4 TTL ms of the run
--       5.. quads: dead letter id, level digit, message, task id
-- Returns how many were there and moved; what was replayed or purged before is passed over.
-- include lane
local groups = KEYS[1] .. ':groups'
local most = tonumber(ARGV[3])
local moved = 0
for i = 5, #ARGV, 4 do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  local group = entry and entry[2][5] == 'g' and entry[2][6] or ''
  if entry and most and tonumber(redis.call('HGET', KEYS[5], 'replayed:' .. group) or 0) >= most then entry = nil end
  if entry then
    local level = ARGV[i + 1]
    -- first written, then deleted: without memory the XADD fails and the dead letter stays
    level = put(KEYS[2], level, ARGV[i + 2])
    redis.call('XDEL', KEYS[1], ARGV[i])
    redis.call('DEL', KEYS[4] .. ARGV[i + 3])
    if group ~= '' and redis.call('HINCRBY', groups, 'n:' .. group, -1) <= 0 then
      redis.call('HDEL', groups, 'n:' .. group, 'l:' .. group, 'f:' .. group, 'e:' .. group)
    end
    if KEYS[5] then redis.call('HINCRBY', KEYS[5], 'replayed:' .. group, 1) end
    if level ~= ARGV[2] and redis.call('SADD', KEYS[3], level) == 1 then redis.call('PUBLISH', ARGV[1], 'levels') end
    moved = moved + 1
  end
end
if moved > 0 then
  if KEYS[5] then redis.call('PEXPIRE', KEYS[5], ARGV[4]) end
  if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', groups) end
end
return moved
