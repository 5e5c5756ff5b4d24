-- Pause a schedule, or let it go on.
--
-- KEYS  1 state of the schedule in its queue
-- ARGV  1 1 pause, 0 resume  2 wake channel of the beats
-- Returns 1 changed, 0 it was so before, -1 the schedule has moved to another queue.
-- Resuming counts everything up to now as dealt with: what was due meanwhile is not made up for.
if redis.call('HEXISTS', KEYS[1], 'moved') == 1 then return -1 end
local paused = redis.call('HEXISTS', KEYS[1], 'paused')
if paused == tonumber(ARGV[1]) then return 0 end
if paused == 0 then
  redis.call('HSET', KEYS[1], 'paused', '1')
else
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local fired = tonumber(redis.call('HGET', KEYS[1], 'fired') or 0)
  redis.call('HSET', KEYS[1], 'fired', string.format('%.0f', math.max(now, fired)))
  redis.call('HDEL', KEYS[1], 'paused')
end
redis.pcall('PUBLISH', ARGV[2], 'changed')
return 1
