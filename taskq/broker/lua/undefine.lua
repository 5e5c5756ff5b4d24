-- Forget the definition of a schedule, if it is still the one that the caller knows.
--
-- KEYS  1 definitions  2 revisions  3 last revision number  4 confirmed  5 changes
-- ARGV  1 schedule  2 its revision number  3 wake channel
-- Returns 1 forgotten (now or before), 0 there is a newer definition.
-- include changed
local known = redis.call('HGET', KEYS[2], ARGV[1])
if known and cjson.decode(known).number ~= tonumber(ARGV[2]) then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
changed(KEYS[3], KEYS[5], ARGV[1])
redis.pcall('PUBLISH', ARGV[3], 'changed')
return 1
