-- Copy the events that groups have not seen into the queues of the groups, a page at a time.
--
-- KEYS  1 events   2 topic   then for each group: stream of its queue, delayed of its queue
-- ARGV  1 page size of each group   2 how many messages may wait in a stream   3 bytes after which a page ends
--       then for each group: its name, task name, packed, '1' when events of one key are handled one after the other,
--       else '', and what the keys of its queue begin with
-- Returns for each group {copied, events that were dropped before the group saw them, what to do next:
--          0 call again: there is more   1 wait for 'published'   2 the queue is full   3 set a position first}.
-- Position and copies move in one step, and a copy's task id is made of its event's id: no event is copied twice.
-- A full queue is filled again when it is half empty, so that a slow group costs few calls.
-- Groups that have come equally far share what is read, and what their copies have in common.
-- include lane
local call, CHUNK = redis.call, 100
local page, limit, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

-- a message is the array [1, id, task, [[event id, ordinal, key, payload]], {}, meta]: see message.py
-- What the copies of all groups have in common: what comes before a group's generation and task, and what comes after.
-- The copies of a group that is alone in its call are put together at once.
local function prepare(entries, own)
  local ordinals, heads, rests, keys = {}, {}, {}, {}
  for i, entry in ipairs(entries) do
    local id, fields = entry[1], entry[2]
    local ordinal = fields[1] == 'm' and fields[3] == 'n' and tonumber(fields[4]) or false
    ordinals[i] = ordinal
    if ordinal then
      local ms, seq = string.match(id, '(%d+)-(%d+)')
      local key = fields[6] and cmsgpack.pack(fields[6])
      keys[i] = key
      local number = struct.pack('>I6I6', tonumber(ms), tonumber(seq))
      id, ordinal = cmsgpack.pack(id), cmsgpack.pack(ordinal)
      if own then
        heads[i] = '\149\1\196\16' .. number .. own .. '\145\148' .. id .. ordinal .. (key or '\192') .. fields[2] .. '\128'
        rests[i] = ''
      else
        heads[i] = '\149\1\196\16' .. number
        rests[i] = '\145\148' .. id .. ordinal .. (key or '\192') .. fields[2] .. '\128'
      end
    end
  end
  return {entries = entries, ordinals = ordinals, heads = heads, rests = rests, keys = keys}
end

local alone, chunks = #KEYS == 4, {}
local function read(after, to, own)
  local shared = not alone and to == '+'
  local chunk = shared and chunks[after]
  if not chunk then
    chunk = prepare(call('XRANGE', KEYS[1], '(' .. after, to, 'COUNT', CHUNK), alone and own)
    if shared then chunks[after] = chunk end
  end
  return chunk
end

-- copies up to count events after an id; the last one's id, how many, whether that was all, each event's ordinal told
local function copy(group, after, to, count, tell)
  local copied, bytes, own, stream = 0, 0, alone and '' or group.own, group.stream
  while copied < count and bytes < most_bytes do
    local chunk = read(after, to, group.own)
    local entries, ordinals, heads, rests = chunk.entries, chunk.ordinals, chunk.heads, chunk.rests
    local take = math.min(#entries, count - copied)
    for i = 1, take do
      local fields, key = entries[i][2], group.ordered and chunk.keys[i]
      if ordinals[i] then tell(ordinals[i]) end
      if not ordinals[i] then
        -- not written by publish.lua: as it is, for the dead letter queue
        call('XADD', stream, '*', unpack(fields, 1, math.min(#fields, 100)))
      elseif key then
        join(group.base, fields[6], '5', '\150' .. string.sub(heads[i], 2) .. own .. rests[i] .. '\129\161l' .. key)
      else
        call('XADD', stream, '*', 'm', heads[i] .. own .. rests[i])
      end
      bytes = bytes + #fields[2]
    end
    if take > 0 then after = entries[take][1] end
    copied = copied + take
    if take == #entries and take < CHUNK then return after, copied, true end
  end
  return after, copied, false
end

local function dispatch(group, delayed)
  local name = group.name
  local known = call('HMGET', KEYS[2], 'cursor:' .. name, 'read:' .. name, 'generation:' .. name, 'replays:' .. name)
  local cursor, read_to, replays = known[1], tonumber(known[2]), known[4]
  if not cursor then return {0, 0, 3} end
  local room = limit - call('XLEN', group.stream)
  if room < limit / 2 or call('ZCARD', delayed) >= 10 * limit then return {0, 0, 2} end
  if group.ordered and tonumber(call('HGET', group.base .. 'lanes', 'waiting') or 0) >= 10 * limit then return {0, 0, 2} end
  room = math.min(room, page)
  group.own = struct.pack('>I4', tonumber(known[3])) .. group.task

  local missed = 0
  local function note(ordinal)
    missed = missed + math.max(ordinal - read_to - 1, 0)
    read_to = ordinal
  end
  -- a replay gets half of the room, so that neither holds up the other
  local last, copied, all = copy(group, cursor, '+', replays and math.ceil(room / 2) or room, note)
  if all then
    note(tonumber(call('HGET', KEYS[2], 'total') or 0) + 1)
    read_to = read_to - 1
  end
  if copied > 0 or missed > 0 then
    call('HSET', KEYS[2], 'cursor:' .. name, last, 'read:' .. name, string.format('%.0f', read_to))
  end
  if missed > 0 then call('HINCRBY', KEYS[2], 'trimmed:' .. name, missed) end

  if replays then
    local after, to, rest = string.match(replays, '^(%S+) ([^,]+),(.*)$')
    local again, done
    after, again, done = copy(group, after, to, room - copied, function() end)
    copied = copied + again
    local left = done and rest or after .. ' ' .. to .. ',' .. rest
    if left == '' then
      call('HDEL', KEYS[2], 'replays:' .. name)
    else
      call('HSET', KEYS[2], 'replays:' .. name, left)
      all = false
    end
  end
  return {copied, missed, all and 1 or 0}
end

local answers, asleep = {}, false
for n = 1, (#KEYS - 2) / 2 do
  local at = 4 * n
  local group = {name = ARGV[at], task = ARGV[at + 1], ordered = ARGV[at + 2] == '1', base = ARGV[at + 3]}
  group.stream = KEYS[2 * n + 1]
  answers[n] = dispatch(group, KEYS[2 * n + 2])
  asleep = asleep or answers[n][3] == 1
end
if asleep then call('HSET', KEYS[2], 'asleep', 1) end
return answers
