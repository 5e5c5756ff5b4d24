-- Set where a group goes on reading its topic.
--
-- KEYS  1 events   2 topic
-- ARGV  1 group    2 where: 'earliest', 'latest', epoch ms of the first event to read, or 'after <event id>'
--       3 channel of the topic   4 'new' only if the group has no position yet, 'known' only if it has one, else ''
-- Returns {the id after which it reads, how many of the topic's events are before it or dropped}; nothing when
-- 'known' was asked for and the group has no position.
-- The group gets a new generation, so that an event which it gets a second time is another message.
-- include place
local cursor_field, read_field = 'cursor:' .. ARGV[1], 'read:' .. ARGV[1]
if ARGV[4] ~= '' then
  local known = redis.call('HMGET', KEYS[2], cursor_field, read_field)
  if ARGV[4] == 'known' and not known[1] then return false end
  if ARGV[4] == 'new' and known[1] then return {known[1], tonumber(known[2])} end
end
local cursor, read = place(KEYS[1], KEYS[2], ARGV[2])
redis.call('HSET', KEYS[2], cursor_field, cursor, read_field, string.format('%.0f', read))
redis.call('HINCRBY', KEYS[2], 'generation:' .. ARGV[1], 1)
redis.pcall('PUBLISH', ARGV[3], 'published')
return {cursor, read}
