-- Copy the events that a group has not seen into the group's queue, a page at a time.
--
-- KEYS  1 events   2 topic   3 stream of the group's queue   4 delayed of the group's queue
-- ARGV  1 group    2 task name, packed   3 page size   4 how many messages may wait in the stream
--       5 '1' when events of one key are handled one after the other, else ''   6 what the group's keys begin with
-- Returns {copied, events that were dropped before the group saw them, what to do next:
--          0 call again: there is more   1 wait for 'published'   2 the queue is full   3 set a position first}.
-- Position and copies move in one step, and a copy's task id is made of its event's id: no event is copied twice.
-- A full queue is filled again when it is half empty, so that a slow group costs few calls.
-- include lane
local group, ordered, base = ARGV[1], ARGV[5] == '1', ARGV[6]
local known = redis.call('HMGET', KEYS[2], 'cursor:' .. group, 'read:' .. group, 'generation:' .. group,
  'replays:' .. group)
local cursor, read, generation, replays = known[1], tonumber(known[2]), tonumber(known[3]), known[4]
if not cursor then return {0, 0, 3} end
local limit = tonumber(ARGV[4])
local room = limit - redis.call('XLEN', KEYS[3])
if room < limit / 2 or redis.call('ZCARD', KEYS[4]) >= 10 * limit then return {0, 0, 2} end
if ordered and tonumber(redis.call('HGET', base .. 'lanes', 'waiting') or 0) >= 10 * limit then return {0, 0, 2} end
room = math.min(room, tonumber(ARGV[3]))

-- a message is the array [1, id, task, [[event id, ordinal, key, payload]], {}, meta]: see message.py
local function message(id, ordinal, key, payload)
  local ms, seq = string.match(id, '(%d+)-(%d+)')
  local packed_key = key and cmsgpack.pack(key)
  local in_lane = ordered and key
  return (in_lane and '\150' or '\149') .. '\1\196\16' .. struct.pack('>I6I6I4', tonumber(ms), tonumber(seq), generation) .. ARGV[2]
    .. '\145\148' .. cmsgpack.pack(id) .. cmsgpack.pack(ordinal) .. (packed_key or '\192') .. payload
    .. (in_lane and '\128\129\161l' .. packed_key or '\128')
end

-- copies up to count events after an id; the last one's id, how many, whether that was all, each event's ordinal told
local function copy(after, to, count, tell)
  local copied, bytes, more = 0, 0, true
  while copied < count and bytes < 1000000 and more do
    local wanted = math.min(count - copied, 100)
    local events = redis.call('XRANGE', KEYS[1], '(' .. after, to, 'COUNT', wanted)
    for _, event in ipairs(events) do
      local id, fields = event[1], event[2]
      if fields[1] == 'm' and fields[3] == 'n' then
        local ordinal = tonumber(fields[4])
        tell(ordinal)
        local data = message(id, ordinal, fields[6], fields[2])
        if ordered and fields[6] then
          join(base, fields[6], '5', data)
        else
          redis.call('XADD', KEYS[3], '*', 'm', data)
        end
        bytes = bytes + #fields[2]
      else
        -- not written by publish.lua: as it is, for the dead letter queue
        redis.call('XADD', KEYS[3], '*', unpack(fields, 1, math.min(#fields, 100)))
      end
      after = id
    end
    copied = copied + #events
    more = #events == wanted
  end
  return after, copied, not more
end

local missed = 0
local function note(ordinal)
  missed = missed + math.max(ordinal - read - 1, 0)
  read = ordinal
end
-- a replay gets half of the room, so that neither holds up the other
local last, copied, all = copy(cursor, '+', replays and math.ceil(room / 2) or room, note)
if all then note(tonumber(redis.call('HGET', KEYS[2], 'total') or 0) + 1) read = read - 1 end
if copied > 0 or missed > 0 then
  redis.call('HSET', KEYS[2], 'cursor:' .. group, last, 'read:' .. group, string.format('%.0f', read))
end
if missed > 0 then redis.call('HINCRBY', KEYS[2], 'trimmed:' .. group, missed) end

if replays then
  local after, to, rest = string.match(replays, '^(%S+) ([^,]+),(.*)$')
  local again, done
  after, again, done = copy(after, to, room - copied, function() end)
  copied = copied + again
  local left = done and rest or after .. ' ' .. to .. ',' .. rest
  if left == '' then
    redis.call('HDEL', KEYS[2], 'replays:' .. group)
  else
    redis.call('HSET', KEYS[2], 'replays:' .. group, left)
    all = false
  end
end
if not all then return {copied, missed, 0} end
redis.call('HSET', KEYS[2], 'asleep', 1)
return {copied, missed, 1}
