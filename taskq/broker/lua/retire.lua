-- Let no revision of a schedule up to this one fire from this queue any more: it has moved, or was removed.
--
-- KEYS  1 state of the schedule in this queue  2 history
-- ARGV  1 revision number  2 ms for which to remember it
-- Returns {last fire time ms ('' for none), 1 when it is paused}; {} when a newer revision is here.
local revision = tonumber(redis.call('HGET', KEYS[1], 'revision') or 0)
if revision > tonumber(ARGV[1]) then return {} end
redis.call('HSET', KEYS[1], 'revision', ARGV[1], 'moved', '1')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return {redis.call('HGET', KEYS[1], 'fired') or '', redis.call('HEXISTS', KEYS[1], 'paused')}
