-- Give a worker a lease on a queue, and make sure that its streams and groups exist.
--
-- KEYS  1 consumers   2.. streams
-- ARGV  1 consumer    2 lease ms
-- Returns {the lease deadline, ms on Redis's clock, numbers of the streams whose key holds another type}.
-- Those cannot be read; the others can. The groups begin at 0, so that messages sent before the first worker are delivered too.
local answer = {0}
for i = 2, #KEYS do
  local made = redis.pcall('XGROUP', 'CREATE', KEYS[i], 'taskq', '0', 'MKSTREAM')
  if made.err and string.find(made.err, 'WRONGTYPE', 1, true) then
    answer[#answer + 1] = i - 1
  elseif made.err and string.sub(made.err, 1, 9) ~= 'BUSYGROUP' and not string.find(made.err, 'already exists', 1, true) then
    return made
  end
end
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
redis.call('ZADD', KEYS[1], string.format('%.0f', deadline), ARGV[1])
answer[1] = deadline
return answer
