-- Put dead letters back into their queue, each at most once.
--
-- KEYS  1 dead  2 what the queue's keys begin with  3 levels  4 result prefix
--       5 run (optional): where it is counted, by fingerprint
-- ARGV  1 wake channel  2 default level  3 most of one fingerprint that the run may put back, '' for no limit
--       4 TTL ms of the run
--       5.. fives: dead letter id, its group ('' for none), level digit, message, task id
-- Returns how many were there and moved; what was replayed or purged before is skipped.
-- include lane
-- include uncount
local dead = KEYS[1]
local most = tonumber(ARGV[3])
local moved, back, room, outcomes, streams, used = 0, {}, {}, {}, {}, {}

local function allowed(group)
  if not most then return true end
  if not room[group] then room[group] = most - tonumber(redis.call('HGET', KEYS[5], 'replayed:' .. group) or 0) end
  return (back[group] or 0) < room[group]
end

-- First written, then deleted: without memory the XADD fails and the dead letter stays. But Redis refuses memory to a
-- script at its first write only. So once a stream has taken a message it takes the others, and XDEL may tell first
-- whether the letter is there: looking it up would copy its traceback.
local function move(entry, level, message)
  if streams[level] then
    if redis.call('XDEL', dead, entry) == 0 then return false end
    redis.call('XADD', streams[level], '*', 'm', message)
    return true
  end
  if not redis.call('XRANGE', dead, entry, entry)[1] then return false end
  used[put(KEYS[2], level, message)] = true
  redis.call('XDEL', dead, entry)
  if level < 'A' then streams[level] = KEYS[2] .. 'stream:' .. level end
  return true
end

for i = 5, #ARGV, 5 do
  local group = ARGV[i + 1]
  if allowed(group) and move(ARGV[i], ARGV[i + 2], ARGV[i + 3]) then
    moved = moved + 1
    outcomes[moved] = KEYS[4] .. ARGV[i + 4]
    back[group] = (back[group] or 0) + 1
  end
end
if moved == 0 then return 0 end
redis.call('DEL', unpack(outcomes))
if KEYS[5] then
  for group, count in pairs(back) do redis.call('HINCRBY', KEYS[5], 'replayed:' .. group, count) end
  redis.call('PEXPIRE', KEYS[5], ARGV[4])
end
for level in pairs(used) do
  if level ~= ARGV[2] and redis.call('SADD', KEYS[3], level) == 1 then redis.pcall('PUBLISH', ARGV[1], 'levels') end
end
uncount(dead, back)
return moved
