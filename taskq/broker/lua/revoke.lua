-- Remember that a message must not start (or must stop), unless it has ended already.
--
-- KEYS  1 result   2 revoked
-- ARGV  1 task id  2 how long to remember it, ms  3 wake channel
-- Returns 1 remembered, 0 it has ended.
local outcome = redis.call('GETRANGE', KEYS[1], 0, 0)
if outcome ~= '' and outcome ~= 'R' then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[2]), ARGV[1])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
redis.pcall('PUBLISH', ARGV[3], 'revoked ' .. ARGV[1])
return 1
