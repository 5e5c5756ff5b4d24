-- Set where a group goes on reading its topic.
--
-- KEYS  1 events   2 topic
-- ARGV  1 group    2 where: 'earliest', 'latest', epoch ms of the first event to read, or 'after <event id>'
--       3 channel of the topic   4 '1' only if the group has no position yet, else ''
-- Returns {the id after which it reads, how many of the topic's events are before it or dropped}.
-- The group gets a new generation, so that an event which it gets a second time is another message.
local cursor_field, read_field = 'cursor:' .. ARGV[1], 'read:' .. ARGV[1]
if ARGV[4] == '1' then
  local known = redis.call('HMGET', KEYS[2], cursor_field, read_field)
  if known[1] then return {known[1], tonumber(known[2])} end
end
local cursor = '0-0'
if ARGV[2] == 'latest' then
  local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  if last then cursor = last[1] end
elseif string.sub(ARGV[2], 1, 6) == 'after ' then
  cursor = string.sub(ARGV[2], 7)
elseif ARGV[2] ~= 'earliest' and tonumber(ARGV[2]) > 0 then
  cursor = string.format('%.0f-18446744073709551615', ARGV[2] - 1)
end
local read = tonumber(redis.call('HGET', KEYS[2], 'total') or 0)
local next = redis.call('XRANGE', KEYS[1], '(' .. cursor, '+', 'COUNT', 1)[1]
if next and next[2][3] == 'n' then read = tonumber(next[2][4]) - 1 end
redis.call('HSET', KEYS[2], cursor_field, cursor, read_field, string.format('%.0f', read))
redis.call('HINCRBY', KEYS[2], 'generation:' .. ARGV[1], 1)
redis.call('PUBLISH', ARGV[3], 'published')
return {cursor, read}
