-- Append events to a topic, once per sequence number of the producer, and drop what it need not keep.
--
-- KEYS  1 producer   last sequence accepted from this producer connection
--       2 events
--       3 topic
-- ARGV  1 sequence   2 producer TTL ms   3 channel of the topic
--       4 how long events are kept, ms   5 how many   6 how many bytes   (each: 0 no limit)
--       7.. pairs: key ('' for none), payload
-- Returns the id of the last event; false when the sequence was seen before: then nothing is written.
-- Each event carries its ordinal, so that how far a group has come, and what it has missed, is known without counting.
-- Publishes 'published' when a dispatcher sleeps, and not otherwise.
-- include trim
local seen = redis.call('GET', KEYS[1])
if seen and (tonumber(seen) or 0) >= tonumber(ARGV[1]) then return false end
local count, bytes = (#ARGV - 6) / 2, 0
local total = redis.call('HINCRBY', KEYS[3], 'total', count)
local before = total - count
local id
for n = 1, count do
  local key, payload = ARGV[5 + 2 * n], ARGV[6 + 2 * n]
  if key == '' then
    id = redis.call('XADD', KEYS[2], '*', 'm', payload, 'n', before + n)
  else
    id = redis.call('XADD', KEYS[2], '*', 'm', payload, 'n', before + n, 'k', key)
  end
  bytes = bytes + #payload
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
-- a node of the stream holds about a hundred events or 4 KB: to look more often than nodes fill is in vain
if bytes > 4096 or math.floor(total / 100) ~= math.floor(before / 100) then
  trim(KEYS[2], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
end
if redis.call('HDEL', KEYS[3], 'asleep') == 1 then redis.pcall('PUBLISH', ARGV[3], 'published') end
return id
