-- A beat is alive, and these are the definitions that it has.
--
-- KEYS  1 beats  2 revisions  3 last revision number  4 confirmed
-- ARGV  1 beat  2 lease ms ('' it stops)  3.. pairs: schedule, revision hash (a page of them)
-- Returns {last revision number, beats alive, schedules of which another definition stands (or none) ...}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if ARGV[2] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
local answer = {tonumber(redis.call('GET', KEYS[3]) or 0) or 0, redis.call('ZCARD', KEYS[1])}
for i = 3, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[2], ARGV[i])
  if known and cjson.decode(known).hash == ARGV[i + 1] then
    redis.call('HSET', KEYS[4], ARGV[i], string.format('%.0f', now))
  else
    answer[#answer + 1] = ARGV[i]
  end
end
return answer
