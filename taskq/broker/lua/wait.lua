-- Read an outcome, or ask to be told when there is one.
--
-- KEYS  1 result   2 waiting
-- ARGV  1 task id  2 channel of the client ('' only reads)  3 TTL ms of the waiting list
-- Returns the state letter and outcome; false when there is none yet.
-- Reading and registering are one step: an outcome cannot slip between them.
local outcome = redis.call('GET', KEYS[1])
if ARGV[2] == '' or (outcome and string.sub(outcome, 1, 1) ~= 'R') then return outcome end
local channels = redis.call('HGET', KEYS[2], ARGV[1])
if not channels then
  channels = ARGV[2]
elseif not string.find(' ' .. channels .. ' ', ' ' .. ARGV[2] .. ' ', 1, true) then
  channels = channels .. ' ' .. ARGV[2]
end
redis.call('HSET', KEYS[2], ARGV[1], channels)
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return outcome
