-- Give messages of a task with a rate limit their permit to start, and park those for which there is none.
--
-- KEYS  1 consumers  2 permits  3 parked  4 limited  5.. streams
-- ARGV  1 consumer  2 starts in a window  3 window ms  4 guard ms  5 most to start now  6 TTL ms of the permits
--       7 wake channel  8 hold ms  9 task  10.. triples: stream number, entry id, task id
-- Returns {0} when STALE: the caller has no lease any more, nothing was changed.
--         Else {1, the present (ms as text), for each: 1 it has a permit and must start within the guard,
--               2 its permit is held until it finds a slot, 0 it is parked, or was not ours any more}.
-- A permit counts from its start: until the worker says when that was (see started.lua), from the latest possible.
-- While messages are parked, newcomers are parked behind them; a parked message that was moved back has its permit.
-- include steps
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {0} end
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
clamp(KEYS[2], now, tonumber(ARGV[4]), ARGV[8] - ARGV[3])
local most, guard = tonumber(ARGV[5]), string.format('%.3f', now + ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.3f', now - ARGV[3]))
local free = ARGV[2] - redis.call('ZCARD', KEYS[2])
local parked = redis.call('LLEN', KEYS[3])
local first = parked == 0
local answer = {1, string.format('%.3f', now)}
for i = 10, #ARGV, 3 do
  local stream, id, task = KEYS[4 + ARGV[i]], ARGV[i + 1], ARGV[i + 2]
  local stamp, grant = 's' .. task .. ':' .. id, 'g' .. task
  local entry = redis.call('XRANGE', stream, id, id)[1]
  local said = 0
  if redis.call('ZSCORE', KEYS[2], stamp) then -- this call was sent before, and its reply lost
    redis.call('ZADD', KEYS[2], guard, stamp)
    said, most = 1, most - 1
  elseif entry then
    local granted = redis.call('ZSCORE', KEYS[2], grant)
    if not granted and (parked > 0 or free <= 0) then
      local crashes = entry[2][3] == 'c' and entry[2][4] or ''
      redis.call('RPUSH', KEYS[3], crashes .. '\n' .. task .. '\n' .. entry[2][2])
      redis.call('SADD', KEYS[4], ARGV[9])
      redis.call('XACK', stream, 'taskq', id)
      redis.call('XDEL', stream, id)
      parked = parked + 1
    else
      if not granted then free = free - 1 end
      said = 2
      if most <= 0 and not granted then
        -- held: or what is parked behind it would be moved back before it
        redis.call('ZADD', KEYS[2], string.format('%.3f', now + ARGV[8] - ARGV[3]), grant)
      elseif most > 0 then
        redis.call('ZADD', KEYS[2], guard, stamp)
        redis.call('ZREM', KEYS[2], grant)
        said, most = 1, most - 1
      end
    end
  end
  answer[#answer + 1] = said
end
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[6]) / 2 then redis.call('PEXPIRE', KEYS[2], ARGV[6]) end
if first and parked > 0 then redis.pcall('PUBLISH', ARGV[7], 'parked') end
return answer
