-- Move parked messages of a task to the front of their queue, as many as there are permits, a page at a time.
--
-- KEYS  1 permits  2 parked  3 mover  4 front  5 limited
-- ARGV  1 caller  2 starts in a window  3 window ms  4 guard ms  5 hold ms  6 page size  7 TTL ms of the permits  8 task
-- Returns {moved, ms until there may be more to do (0: at once, -1: nothing is parked)}.
-- A moved message holds its permit until it starts; the hold is for one that never will, because it was purged.
-- One caller at a time is the mover, until it should have come again and did not; the others are told to come later.
-- include steps
if redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('SREM', KEYS[5], ARGV[8])
  return {0, -1}
end
local mover, left = redis.call('GET', KEYS[3]), redis.call('PTTL', KEYS[3])
-- longer than anybody is ever the mover: Redis's clock was set back meanwhile
if mover and mover ~= ARGV[1] and left <= ARGV[3] + ARGV[4] + ARGV[5] then return {0, left} end
local time = redis.call('TIME')
local now, window = time[1] * 1000 + time[2] / 1000, tonumber(ARGV[3])
local limit = tonumber(ARGV[2])
clamp(KEYS[1], now, tonumber(ARGV[4]), ARGV[5] - window)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.3f', now - window))
local used = redis.call('ZCARD', KEYS[1])
local moved = 0
local count = math.min(limit - used, tonumber(ARGV[6]))
if count > 0 then
  local held = string.format('%.3f', now + ARGV[5] - window)
  for _, packed in ipairs(redis.call('LRANGE', KEYS[2], 0, count - 1)) do
    local crashes, task, message = string.match(packed, '^(%d*)\n([^\n]*)\n(.*)$')
    if not crashes then -- nothing of ours: a dead letter with its bytes
      redis.call('XADD', KEYS[4], '*', 'm', packed)
    elseif crashes == '' then
      redis.call('XADD', KEYS[4], '*', 'm', message)
    else
      redis.call('XADD', KEYS[4], '*', 'm', message, 'c', crashes)
    end
    if task then redis.call('ZADD', KEYS[1], held, 'g' .. task) end
    moved = moved + 1
  end
  redis.call('LTRIM', KEYS[2], moved, -1)
  redis.call('PEXPIRE', KEYS[1], ARGV[7])
end
if redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('SREM', KEYS[5], ARGV[8])
  redis.call('DEL', KEYS[3])
  return {moved, -1}
end
local wait = 0
used = redis.call('ZCARD', KEYS[1])
if used >= limit then
  -- the permit that must come free; one without its start said yet may come free earlier than it looks
  local next = redis.call('ZRANGE', KEYS[1], used - limit, used - limit, 'WITHSCORES')
  local from = tonumber(next[2])
  if from > now and string.sub(next[1], 1, 1) == 's' then from = from - ARGV[4] end
  wait = math.max(math.ceil(math.min(from, now) + window - now), 1)
end
redis.call('SET', KEYS[3], ARGV[1], 'PX', wait + 1000)
return {moved, wait}
