-- Renew a worker's lease on a queue, if it still has one.
--
-- KEYS  1 consumers
-- ARGV  1 consumer   2 lease ms
-- Returns 1 renewed, 0 STALE: the lease ran out and its deliveries were taken over.
local time = redis.call('TIME')
local deadline = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2])
if redis.call('ZADD', KEYS[1], 'XX', 'CH', deadline, ARGV[1]) == 1 then return 1 end
-- CH answers 0 also for a second renewal within the same millisecond
return redis.call('ZSCORE', KEYS[1], ARGV[1]) and 1 or 0
