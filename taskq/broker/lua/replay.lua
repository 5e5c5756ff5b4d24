-- Put dead letters back into their queue, each at most once.
--
-- KEYS  1 dead  2 stream prefix  3 levels  4 result prefix
-- ARGV  1 wake channel  2 default level  3.. quads: dead letter id, level digit, message, task id
-- Returns how many were there and moved; what was replayed or purged before is passed over.
local moved = 0
for i = 3, #ARGV, 4 do
  if redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1] then
    local level = ARGV[i + 1]
    -- first written, then deleted: without memory the XADD fails and the dead letter stays
    redis.call('XADD', KEYS[2] .. level, '*', 'm', ARGV[i + 2])
    redis.call('XDEL', KEYS[1], ARGV[i])
    redis.call('DEL', KEYS[4] .. ARGV[i + 3])
    if level ~= ARGV[2] and redis.call('SADD', KEYS[3], level) == 1 then redis.call('PUBLISH', ARGV[1], 'levels') end
    moved = moved + 1
  end
end
return moved
