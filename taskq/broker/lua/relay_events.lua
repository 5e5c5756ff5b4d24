-- Append events that were kept elsewhere to a topic: each once by its id, however often and by however many relays it
-- is sent.
--
-- KEYS  1 events   2 topic   3 prefix of the marks of used ids
-- ARGV  1 TTL ms of a mark   2 channel of the topic
--       3 how long events are kept, ms   4 how many   5 how many bytes   (each: 0 no limit)
--       6.. triples: id, key ('' for none), payload
-- Returns how many were new.
-- include trim
local before = tonumber(redis.call('HGET', KEYS[2], 'total') or 0)
local total, bytes = before, 0
for i = 6, #ARGV, 3 do
  local sent, key, payload = KEYS[3] .. ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if redis.call('EXISTS', sent) == 0 then
    -- the event before its mark: an error between the two makes it come again, not go missing
    if key == '' then
      redis.call('XADD', KEYS[1], '*', 'm', payload, 'n', total + 1)
    else
      redis.call('XADD', KEYS[1], '*', 'm', payload, 'n', total + 1, 'k', key)
    end
    total = redis.call('HINCRBY', KEYS[2], 'total', 1)
    redis.call('SET', sent, '1', 'PX', ARGV[1])
    bytes = bytes + #payload
  end
end
-- see publish.lua
if bytes > 4096 or math.floor(total / 100) ~= math.floor(before / 100) then
  trim(KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]))
end
if total > before and redis.call('HDEL', KEYS[2], 'asleep') == 1 then
  redis.pcall('PUBLISH', ARGV[2], 'published')
end
return total - before
