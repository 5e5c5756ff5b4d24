-- Move delayed messages that are due into their streams, a page at a time.
--
-- KEYS  1 delayed  2 levels  3 what the queue's keys begin with
-- ARGV  1 page size  2 wake channel  3 default level
-- A message with an ordering key takes its place in its lane now, unless it has one: a retry has.
-- Returns {moved, ms until the next is due (0: at once, -1: none)}.
-- include lane
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
local used = {}
for _, member in ipairs(due) do
  used[put(KEYS[3], string.sub(member, 1, 1), string.sub(member, 2))] = true
end
if #due > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, #due - 1) end
for level in pairs(used) do
  if level ~= ARGV[3] and redis.call('SADD', KEYS[2], level) == 1 then redis.pcall('PUBLISH', ARGV[2], 'levels') end
end
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
return {#due, head and math.max(0, tonumber(head) - now) or -1}
