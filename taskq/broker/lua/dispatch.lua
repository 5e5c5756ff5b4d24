-- Copy the events that a group has not seen into the group's queue, a page at a time.
--
-- KEYS  1 events   2 topic   3 stream of the group's queue   4 delayed of the group's queue
-- ARGV  1 group    2 task name, packed   3 page size   4 how many messages may wait in the stream
-- Returns {copied, events that were dropped before the group saw them, what to do next:
--          0 call again: there is more   1 wait for 'published'   2 the queue is full   3 set a position first}.
-- Position and copies move in one step, and a copy's task id is made of its event's id: no event is copied twice.
-- A full queue is filled again when it is half empty, so that a slow group costs few calls.
local position = redis.call('HMGET', KEYS[2], 'cursor:' .. ARGV[1], 'read:' .. ARGV[1], 'generation:' .. ARGV[1])
local cursor, read, generation = position[1], tonumber(position[2]), tonumber(position[3])
if not cursor then return {0, 0, 3} end
local limit = tonumber(ARGV[4])
local room = limit - redis.call('XLEN', KEYS[3])
if room < limit / 2 or redis.call('ZCARD', KEYS[4]) >= 10 * limit then return {0, 0, 2} end
room = math.min(room, tonumber(ARGV[3]))

-- a message is the array [1, id, task, [[event id, ordinal, key, payload]], {}]: see message.py
local function message(id, ordinal, key, payload)
  local ms, seq = string.match(id, '(%d+)-(%d+)')
  return '\149\1\196\16' .. struct.pack('>I6I6I4', tonumber(ms), tonumber(seq), generation) .. ARGV[2]
    .. '\145\148' .. cmsgpack.pack(id) .. cmsgpack.pack(ordinal) .. (key and cmsgpack.pack(key) or '\192') .. payload
    .. '\128'
end

local copied, bytes, missed, more = 0, 0, 0, true
while copied < room and bytes < 1000000 and more do
  local wanted = math.min(room - copied, 100)
  local events = redis.call('XRANGE', KEYS[1], '(' .. cursor, '+', 'COUNT', wanted)
  for _, event in ipairs(events) do
    local id, fields = event[1], event[2]
    if fields[1] == 'm' and fields[3] == 'n' then
      local ordinal = tonumber(fields[4])
      missed = missed + math.max(ordinal - read - 1, 0)
      redis.call('XADD', KEYS[3], '*', 'm', message(id, ordinal, fields[6], fields[2]))
      read = ordinal
      bytes = bytes + #fields[2]
    else
      -- not written by publish.lua: as it is, for the dead letter queue
      redis.call('XADD', KEYS[3], '*', unpack(fields, 1, math.min(#fields, 100)))
    end
    cursor = id
  end
  copied = copied + #events
  more = #events == wanted
end
if not more then
  local total = tonumber(redis.call('HGET', KEYS[2], 'total') or 0)
  missed = missed + math.max(total - read, 0)
  read = total
end
if copied > 0 or missed > 0 then
  redis.call('HSET', KEYS[2], 'cursor:' .. ARGV[1], cursor, 'read:' .. ARGV[1], string.format('%.0f', read))
end
if missed > 0 then redis.call('HINCRBY', KEYS[2], 'trimmed:' .. ARGV[1], missed) end
if more then return {copied, missed, 0} end
redis.call('HSET', KEYS[2], 'asleep', 1)
return {copied, missed, 1}
