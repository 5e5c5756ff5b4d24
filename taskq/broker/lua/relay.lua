-- Put messages of one queue into their streams, or aside until their time: each once by its task id, however often
-- and by however many relays it is sent.
--
-- KEYS  1 delayed  2 levels  3 what the queue's keys begin with  4 prefix of the marks of used task ids
-- ARGV  1 TTL ms of a mark, counted from the message's time   2 wake channel   3 default level
--       4.. quads: task id, level digit, due epoch ms ('+ms' from now, '' at once), message
-- Returns how many were new.
-- include lane
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local earliest, new, used = nil, 0, {}
for i = 4, #ARGV, 4 do
  local sent, level, due = KEYS[4] .. ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  if string.sub(ARGV[i + 2], 1, 1) == '+' then due = now + due end
  if redis.call('EXISTS', sent) == 0 then
    -- the message before its mark: an error between the two makes it come again, not go missing
    if due and due > now then
      redis.call('ZADD', KEYS[1], string.format('%.0f', due), level .. ARGV[i + 3])
      if not earliest or due < earliest then earliest = due end
    else
      used[put(KEYS[3], level, ARGV[i + 3])] = true
    end
    redis.call('SET', sent, '1', 'PX', string.format('%.0f', math.max((due or now) - now, 0) + ARGV[1]))
    new = new + 1
  end
end
for level in pairs(used) do
  if level ~= ARGV[3] and redis.call('SADD', KEYS[2], level) == 1 then redis.pcall('PUBLISH', ARGV[2], 'levels') end
end
if earliest and (not head or earliest < tonumber(head)) then redis.pcall('PUBLISH', ARGV[2], 'delayed') end
return new
