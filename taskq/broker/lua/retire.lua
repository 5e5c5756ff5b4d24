-- Let no revision of a schedule up to this one fire from this queue any more: it has moved, or was removed.
--
-- KEYS  1 state of the schedule in this queue  2 history  3 held  4 levels  5 delayed  6 limited  7 waiting  8 holding
-- ARGV  1 revision number  2 ms for which to remember it  3 what all keys of the queue begin with  4 its name  5 default level
--       6 wake channel  7 outcome of what it holds back ('' it is sent all the same, one after the other)
--       8 TTL ms of that outcome
-- Returns {last fire time ms ('' for none), 1 when it is paused, messages that have ended so}; {} when a newer revision
-- is here.
-- What is held back was accepted. Without another fire, only the end of the message before it can send it: so where
-- nothing is there to end, the first is sent here, and the state stays until the last has gone.
-- include held
-- include unended
local revision = tonumber(redis.call('HGET', KEYS[1], 'revision') or 0)
if revision > tonumber(ARGV[1]) then return {} end
redis.call('HSET', KEYS[1], 'revision', ARGV[1], 'moved', '1')
local ended = 0
local waits = redis.call('LINDEX', KEYS[3], 0)
while waits and ARGV[7] ~= '' do
  local task = string.match(waits, '^%d([^\n]*)\n')
  if task then
    local kept = redis.pcall('SET', ARGV[3] .. 'result:' .. task, ARGV[7], 'PX', ARGV[8])
    if type(kept) == 'table' and kept.err then
      redis.pcall('SET', ARGV[3] .. 'result:' .. task, string.sub(ARGV[7], 1, 1), 'PX', ARGV[8])
    end
    local channels = redis.call('HGET', KEYS[7], task)
    if channels then
      for channel in string.gmatch(channels, '%S+') do redis.pcall('PUBLISH', channel, task .. '\n' .. ARGV[7]) end
      redis.call('HDEL', KEYS[7], task)
    end
  end
  redis.call('LPOP', KEYS[3])
  no_longer_held(ARGV[3], ARGV[4])
  ended = ended + 1
  waits = redis.call('LINDEX', KEYS[3], 0)
end
local before = redis.call('HGET', KEYS[1], 'message')
if waits and not unended(before, ARGV[3] .. 'result:', ARGV[3] .. 'stream:', KEYS[4], ARGV[5], KEYS[5], KEYS[6]) then
  local level, task, message = string.match(waits, '^(%d)([^\n]*)\n(.*)$')
  level = level or ARGV[5]
  redis.call('XADD', ARGV[3] .. 'stream:' .. level, '*', 'm', message or waits)
  if level ~= ARGV[5] and redis.call('SADD', KEYS[4], level) == 1 then redis.pcall('PUBLISH', ARGV[6], 'levels') end
  redis.call('HSET', KEYS[1], 'message', task or '')
  redis.call('LPOP', KEYS[3])
  no_longer_held(ARGV[3], ARGV[4])
end
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return {redis.call('HGET', KEYS[1], 'fired') or '', redis.call('HEXISTS', KEYS[1], 'paused'), ended}
