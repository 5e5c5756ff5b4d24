-- Move a group's position on, for a reader that says itself how far it has come.
--
-- KEYS  1 topic
-- ARGV  1 group   2 the id that it read after   3 the id up to which it has read   4 that event's ordinal
--       5 how many events were dropped unread on the way
-- Returns 1 moved (or moved by this call before its reply was lost), 0 somebody else has moved it: nothing changed.
local cursor = redis.call('HGET', KEYS[1], 'cursor:' .. ARGV[1])
if cursor == ARGV[3] then return 1 end
if cursor ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'cursor:' .. ARGV[1], ARGV[3], 'read:' .. ARGV[1], ARGV[4])
if ARGV[5] ~= '0' then redis.call('HINCRBY', KEYS[1], 'trimmed:' .. ARGV[1], ARGV[5]) end
return 1
