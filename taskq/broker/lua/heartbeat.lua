-- Renew a worker's lease on a queue, if it still has one, and say when the next of all leases runs out.
--
-- KEYS  1 consumers  2 renewed
-- ARGV  1 consumer   2 lease ms
-- Returns {1 renewed or 0 STALE: the lease ran out and its deliveries were taken over,
--          ms until there is something to take over (0: now)}.
-- KEYS[2] is the time of the last renewal, how long it counts, and how many graces were given in a row. It counts for
-- two thirds of a lease, which is what a lease has left when it is renewed. After that nobody could renew for so long
-- (Redis was away, its clock was set forward, or there was no worker), and with a time in the future the clock was set
-- back: then every lease ends one lease from now. Not a fourth time in a row: a worker that is always late itself must
-- not keep the dead alive.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local deadline = string.format('%.0f', now + ARGV[2])
local renewed = redis.call('ZADD', KEYS[1], 'XX', 'CH', deadline, ARGV[1])
-- CH answers 0 also for a second renewal within the same millisecond
if renewed == 0 and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {0, 0} end
local patience = math.max(1, math.floor(ARGV[2] * 2 / 3))
local function note(graces)
  local row = string.format('%.0f %d %d', now, patience, graces)
  return redis.pcall('SET', KEYS[2], row, 'PX', 4 * ARGV[2], 'GET')
end
local last = note(0)
-- an error: what was there is no string, and was not replaced
if type(last) == 'table' then redis.call('DEL', KEYS[2]) end
local at, graces = string.match(type(last) == 'string' and last or '', '^(%d+) %d+ (%d+)$')
if not at or math.abs(now - at) > patience then
  graces = (graces or 0) + 1
  note(graces)
  for _, consumer in ipairs(graces <= 3 and redis.call('ZRANGEBYSCORE', KEYS[1], '(0', '+inf') or {}) do
    redis.call('ZADD', KEYS[1], deadline, consumer)
  end
end
return {1, math.max(0, tonumber(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]) - now)}
