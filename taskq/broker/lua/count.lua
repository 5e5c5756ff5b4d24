-- Add what a worker has ended to the totals of a queue, to its history of the last two hours and to the lists of the
-- latest, once per sequence number of the worker.
--
-- KEYS  1 producer   last sequence accepted from this worker
--       2 totals     3 history: minute modulo its length -> the minute and its sums
--       4 latest that succeeded   5 latest that ended otherwise
-- ARGV  1 sequence   2 producer TTL ms   3 totals TTL ms   4 history TTL ms   5 minutes of history
--       6 TTL ms of the lists   7 rows they keep   8 how many sums   then the sums of the minute
--       then for each list how many rows (a few dozen) and the rows   then fields of the totals and what to add to each
-- Returns 1, or 0 when the sequence was seen before: then nothing is written.
local seen = redis.call('GET', KEYS[1])
if seen and (tonumber(seen) or 0) >= tonumber(ARGV[1]) then return 0 end
local sums = tonumber(ARGV[8])
local at = 9 + sums
for list = 4, 5 do
  local rows = tonumber(ARGV[at])
  if rows > 0 then
    redis.call('LPUSH', KEYS[list], unpack(ARGV, at + 1, at + rows))
    redis.call('LTRIM', KEYS[list], 0, ARGV[7] - 1)
    redis.call('PEXPIRE', KEYS[list], ARGV[6])
  end
  at = at + 1 + rows
end
for i = at, #ARGV, 2 do redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
local minute = math.floor(redis.call('TIME')[1] / 60)
local slot = minute % ARGV[5]
local row = {string.format('%.0f', minute)}
local known = {}
for number in string.gmatch(redis.call('HGET', KEYS[3], slot) or '', '%d+') do known[#known + 1] = tonumber(number) end
for i = 1, sums do
  local before = known[1] == minute and known[i + 1] or 0
  row[i + 1] = string.format('%.0f', before + ARGV[8 + i])
end
redis.call('HSET', KEYS[3], slot, table.concat(row, ' '))
redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
