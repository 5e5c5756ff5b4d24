-- Say when messages with a permit have started, or that they did not.
--
-- KEYS  1 permits  2 mover
-- ARGV  1 wake channel  2.. pairs: permit, ms of the start on Redis's clock ('' gives the permit back)
-- Returns how many were given back.
-- What is given back may be used at once: the workers are told, and any of them may be the mover.
local back = 0
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    back = back + redis.call('ZREM', KEYS[1], ARGV[i])
  else
    redis.call('ZADD', KEYS[1], 'XX', ARGV[i + 1], ARGV[i])
  end
end
if back > 0 then
  redis.call('DEL', KEYS[2])
  redis.pcall('PUBLISH', ARGV[1], 'parked')
end
return back
