-- Write down how far a run of a batch job has come.
--
-- KEYS  1 consumers   2 job   3 stream of its message
-- ARGV  1 consumer    2 entry id   3 task id   4.. pairs: field, value
-- Returns 1; 0 when STALE: the message is not the caller's any more, or another run has begun. Nothing was changed then.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
if not redis.call('XPENDING', KEYS[3], 'taskq', ARGV[2], ARGV[2], 1, ARGV[1])[1] then return 0 end
if redis.call('HGET', KEYS[2], 'run') ~= ARGV[3] then return 0 end
local time = redis.call('TIME')
redis.call('HSET', KEYS[2], 'seen', time[1] * 1000 + math.floor(time[2] / 1000), unpack(ARGV, 4))
return 1
