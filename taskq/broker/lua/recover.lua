-- Take the deliveries of one worker away from it and put them at the front of the queue, a page at a time.
--
-- KEYS  1 consumers  2 retired  3.. streams, the first of them is the front
-- ARGV  1 consumer to retire; '' for any whose lease has run out
--       2 what to add to the crash count of each message: 1 the worker died, 0 it hands back in peace
--       3 page size
-- Returns {messages moved, 1 when there is more to do now, ms until the next lease runs out (-1: no lease),
--          the consumer ('' for none)}.
-- The consumer leaves KEYS[1] before its first message moves: from then on its settles and renewals are STALE.
-- Until its pending list is empty it is kept in KEYS[2], so that a recovery that dies half way is taken up again.
local page = tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local who = ARGV[1]
if who == '' then who = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, 1)[1] end
if who then
  redis.call('ZREM', KEYS[1], who)
  redis.call('ZADD', KEYS[2], 'NX', ARGV[2], who)
end
if ARGV[1] == '' then who = redis.call('ZRANGE', KEYS[2], 0, 0)[1] end

local moved = 0
if who then
  local charge = tonumber(redis.call('ZSCORE', KEYS[2], who))
  for i = 3, #KEYS do
    local pending = redis.pcall('XPENDING', KEYS[i], 'taskq', '-', '+', page - moved, who)
    if not pending.err then
      for _, row in ipairs(pending) do
        local entry = redis.call('XRANGE', KEYS[i], row[1], row[1])[1]
        if entry then
          local fields = entry[2]
          local crashes = charge + (fields[3] == 'c' and tonumber(fields[4]) or 0)
          -- what is no message of ours keeps all its fields for the dead letter queue
          if fields[1] == 'm' then fields = {'m', fields[2], 'c', crashes} end
          redis.call('XADD', KEYS[3], '*', unpack(fields))
        end
        redis.call('XACK', KEYS[i], 'taskq', row[1])
        redis.call('XDEL', KEYS[i], row[1])
        moved = moved + 1
      end
    end
    if moved >= page then return {moved, 1, 0, who} end
  end
  -- only now: XGROUP DELCONSUMER would drop whatever is still pending
  for i = 3, #KEYS do redis.pcall('XGROUP', 'DELCONSUMER', KEYS[i], 'taskq', who) end
  redis.call('ZREM', KEYS[2], who)
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local more = redis.call('EXISTS', KEYS[2])
if next and tonumber(next) <= now then more = 1 end
return {moved, more, next and math.max(0, tonumber(next) - now) or -1, who or ''}
