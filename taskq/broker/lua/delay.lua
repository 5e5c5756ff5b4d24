-- Put messages aside until their time, once per sequence number of the producer.
--
-- KEYS  1 producer   last sequence accepted from this producer connection
--       2 delayed
--       3 sent       (optional) mark of a task id given by the user; then there is exactly one message
-- ARGV  1 sequence   2 producer TTL ms   3 wake channel   4 TTL ms of KEYS[3], counted from the message's time
--       5.. pairs: due (epoch ms, or '+ms' from now on Redis's clock), level digit with message
-- Returns the due ms of the last message; false when the sequence was seen before or the task id is in use:
--         then nothing is written.
-- Publishes 'delayed' when there is a new earliest message, so that workers set their timers anew.
local seen = redis.call('GET', KEYS[1])
if seen and (tonumber(seen) or 0) >= tonumber(ARGV[1]) then return false end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
if KEYS[3] and redis.call('EXISTS', KEYS[3]) == 1 then return false end
local due, earliest
local words = {}
for i = 5, #ARGV, 2 do
  due = ARGV[i]
  if string.sub(due, 1, 1) == '+' then due = now + tonumber(string.sub(due, 2)) else due = tonumber(due) end
  words[#words + 1] = string.format('%.0f', due)
  words[#words + 1] = ARGV[i + 1]
  if not earliest or due < earliest then earliest = due end
end
redis.call('ZADD', KEYS[2], unpack(words))
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if KEYS[3] then redis.call('SET', KEYS[3], '1', 'PX', math.max(due - now, 0) + ARGV[4]) end
if earliest and (not head or earliest < tonumber(head)) then redis.pcall('PUBLISH', ARGV[3], 'delayed') end
return string.format('%.0f', due)
