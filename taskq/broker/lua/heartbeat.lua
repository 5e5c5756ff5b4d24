-- Renew a worker's lease on a queue, if it still has one, and say when the next of all leases runs out.
--
-- KEYS  1 consumers
-- ARGV  1 consumer   2 lease ms
-- Returns {1 renewed or 0 STALE: the lease ran out and its deliveries were taken over,
--          ms until there is something to take over (0: now)}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local renewed = redis.call('ZADD', KEYS[1], 'XX', 'CH', string.format('%.0f', now + ARGV[2]), ARGV[1])
-- CH answers 0 also for a second renewal within the same millisecond
if renewed == 0 and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {0, 0} end
return {1, math.max(0, tonumber(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]) - now)}
