-- Have a group read a range of its topic again, beside what it reads anyway; dispatch.lua copies the range.
--
-- KEYS  1 events   2 topic
-- ARGV  1 group    2 first: a place as in seek.lua   3 epoch ms of the first event that is not wanted, '' for none
--       4 channel of the topic   5 token of this call
-- Returns {how many events that are; -1: the group has read nothing yet; -2: 100 ranges wait already}.
-- The range ends at the group's position: what is after it, the group has still to read.
-- A call that comes again after a lost reply has the same token and changes nothing.
-- include place
local known = redis.call('HMGET', KEYS[2], 'cursor:' .. ARGV[1], 'replays:' .. ARGV[1], 'replay:' .. ARGV[1])
local cursor, ranges, last = known[1], known[2] or '', known[3] or ''
if not cursor then return -1 end
local token, told = string.match(last, '^(%S+) (%d+)$')
if token == ARGV[5] then return tonumber(told) end
local _, waiting = string.gsub(ranges, ',', '')
if waiting >= 100 then return -2 end
local after, before = place(KEYS[1], KEYS[2], ARGV[2])
local to = cursor
if ARGV[3] ~= '' and tonumber(ARGV[3]) <= tonumber(string.match(cursor, '^%d+')) then
  to = string.format('%.0f-18446744073709551615', math.max(ARGV[3] - 1, 0))
end
local count = math.max(read_at(KEYS[1], KEYS[2], to) - before, 0)
if count > 0 then
  redis.call('HSET', KEYS[2], 'replays:' .. ARGV[1], ranges .. after .. ' ' .. to .. ',')
  redis.call('HINCRBY', KEYS[2], 'generation:' .. ARGV[1], 1)
end
redis.call('HSET', KEYS[2], 'replay:' .. ARGV[1], ARGV[5] .. ' ' .. string.format('%.0f', count))
redis.pcall('PUBLISH', ARGV[4], 'published')
return count
