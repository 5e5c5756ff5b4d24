-- Put messages into a stream, once per sequence number of the producer.
--
-- KEYS  1 producer   last sequence accepted from this producer connection
--       2 stream     of the message's level
--       3 levels     levels in use besides the default
--       4 sent       (optional) mark of a task id given by the user; then there is exactly one message
-- ARGV  1 sequence   2 producer TTL ms   3 level to announce, '' for the default level
--       4 wake channel   5 TTL ms of KEYS[4]   6.. messages
-- Returns the id of the last entry; false when the sequence was seen before or the task id is in use:
--         then nothing is written.
local seen = redis.call('GET', KEYS[1])
if seen and (tonumber(seen) or 0) >= tonumber(ARGV[1]) then return false end
if KEYS[4] and redis.call('EXISTS', KEYS[4]) == 1 then return false end
local entry
for i = 6, #ARGV do entry = redis.call('XADD', KEYS[2], '*', 'm', ARGV[i]) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if KEYS[4] then redis.call('SET', KEYS[4], '1', 'PX', ARGV[5]) end
if ARGV[3] ~= '' and redis.call('SADD', KEYS[3], ARGV[3]) == 1 then redis.pcall('PUBLISH', ARGV[4], 'levels') end
return entry
