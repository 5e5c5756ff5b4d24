-- Enqueue the message of one fire time, once, whichever beat comes first.
--
-- KEYS  1 fired  2 stream  3 levels
-- ARGV  1 schedule  2 fire time ms  3 message  4 level to announce, '' for the default level  5 wake channel
-- Returns 1 fired, 0 this fire time (or a later one) has been fired before.
local last = redis.call('HGET', KEYS[1], ARGV[1])
if last and tonumber(last) >= tonumber(ARGV[2]) then return 0 end
redis.call('XADD', KEYS[2], '*', 'm', ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[4] ~= '' and redis.call('SADD', KEYS[3], ARGV[4]) == 1 then redis.call('PUBLISH', ARGV[5], 'levels') end
return 1
