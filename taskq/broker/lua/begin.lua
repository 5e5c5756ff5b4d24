-- Write down that a run of replays begins; harmless when it has begun before.
--
-- KEYS  1 run  2 runs
-- ARGV  1 id of the run  2 epoch ms  3 TTL ms  4 how many runs are listed  5.. pairs: field, value
-- Returns 1 it began now, 0 it had begun before: then its fields stay.
-- One step, so that a death in the middle leaves no record that would stay for ever.
local began = 0
for i = 5, #ARGV, 2 do began = math.max(began, redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[2], 'NX', ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return began
