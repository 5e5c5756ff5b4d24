-- Let a revision of a schedule fire from this queue, and no older one.
--
-- KEYS  1 state of the schedule in this queue  2 history
-- ARGV  1 revision number  2 where nothing is known here: fire times up to this ms are dealt with
--       3 where this revision is new here: so are those up to this ms  4 1 it was paused in the queue it comes from
-- Returns {1 armed, last fire time ms, 1 when it is paused}; {0} a newer revision is here, or this one has moved on.
local revision = tonumber(redis.call('HGET', KEYS[1], 'revision') or 0)
local number = tonumber(ARGV[1])
if revision > number then return {0} end
if revision == number and redis.call('HEXISTS', KEYS[1], 'moved') == 1 then return {0} end
local fired = tonumber(redis.call('HGET', KEYS[1], 'fired') or ARGV[2])
if revision < number then
  fired = math.max(fired, tonumber(ARGV[3]))
  if ARGV[4] == '1' then redis.call('HSET', KEYS[1], 'paused', '1') end
end
redis.call('HSET', KEYS[1], 'revision', ARGV[1], 'fired', string.format('%.0f', fired))
redis.call('HDEL', KEYS[1], 'moved')
redis.call('PERSIST', KEYS[1])
redis.call('PERSIST', KEYS[2])
return {1, string.format('%.0f', fired), redis.call('HEXISTS', KEYS[1], 'paused')}
