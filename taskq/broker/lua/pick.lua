-- Take of the next entries of some streams those that the caller has a place for; the others keep their order.
--
-- KEYS  1 consumers   2 revoked   3 paused   4.. streams, in the order they are read; the first of them is the front
-- ARGV  1 consumer    2 how many entries to look at, of all streams together   3 how many bytes of them
--       4 state that the caller knows: there was nothing for it, and that holds until something changes ('' for none)
--       5 number of places n, then for each place how many entries may be taken for it; the first of them is that of
--         messages whose task the caller does not know
--       then for each task that it knows: name, number of its place, number of its place for a suspect
-- Returns {0} when STALE: the caller has no lease any more, nothing was changed.
--         Else {1, entries per stream: {number, entries}, flags: 1 ids are revoked in this queue + 2 it is paused (then
--               nothing is taken), state}.
-- A group delivers a stream in its order. So an entry behind others that must stay is moved to the front, which is read
-- then. What must stay in the front itself is moved behind it: in its order, as long as the front is no longer than
-- what is looked at. All moves come before all deletions: an error between them leaves a message twice.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {0} end
local FIRST, front = 3, KEYS[4]

local function group_of(stream)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err and string.find(groups.err, 'WRONGTYPE', 1, true) then return nil, groups end
  for _, row in ipairs(groups.err and {} or groups) do
    local group = {}
    for at = 1, #row, 2 do group[row[at]] = row[at + 1] end
    if group.name == 'taskq' then return group end
  end
  return nil, redis.error_reply('NOGROUP of ' .. stream)
end

local flags = redis.call('EXISTS', KEYS[2]) + 2 * redis.call('EXISTS', KEYS[3])
local last, state = {}, {}
for i = FIRST + 1, #KEYS do
  local group, trouble = group_of(KEYS[i])
  if not group then return trouble end
  last[i] = group['last-delivered-id']
  state[#state + 1] = last[i] .. ' ' .. redis.call('XLEN', KEYS[i]) - group.pending
end
state = table.concat(state, ' ')
if flags >= 2 or state == ARGV[4] then return {1, {}, flags, state} end

local rooms, places, if_suspect, free, at = {}, {}, {}, 0, 6
for n = 1, tonumber(ARGV[5]) do
  rooms[n] = tonumber(ARGV[at])
  free = free + rooms[n]
  at = at + 1
end
for i = at, #ARGV, 3 do
  places[ARGV[i]], if_suspect[ARGV[i]] = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
end

-- first and last byte of the text, or the bytes, that MessagePack has written from *from* on
local function span(message, from)
  local kind, high, low = string.byte(message, from, from + 2)
  if not kind then return 1, 0 end
  if kind >= 0xa0 and kind <= 0xbf then return from + 1, from + kind - 0xa0 end
  if (kind == 0xc4 or kind == 0xd9) and high then return from + 2, from + 1 + high end
  if (kind == 0xc5 or kind == 0xda) and low then return from + 3, from + 2 + high * 256 + low end
  return 1, 0
end

local function place_of(fields)
  local message = fields[1] == 'm' and fields[2] or ''
  local _, id = span(message, 3)
  local name = string.sub(message, span(message, id + 1))
  return (#fields > 2 and if_suspect or places)[name] or 1
end

-- look: what fits, what of the front does not, and whether anything that fits has to step past others
local left, bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
local fits, stay, of_stream, steps_past, stay_before = {}, {}, {}, false, 0
local whole_front = false
for i = FIRST + 1, #KEYS do
  local from, count, passed, ended = '(' .. last[i], 1, false, false
  of_stream[i] = 0
  while not ended and left > 0 and bytes > 0 and (free > 0 or i == FIRST + 1) do
    local rows = redis.call('XRANGE', KEYS[i], from, '+', 'COUNT', math.min(count, left))
    ended = #rows < math.min(count, left)
    for _, row in ipairs(rows) do
      local place = place_of(row[2])
      for _, word in ipairs(row[2]) do bytes = bytes - #word end
      left = left - 1
      from = '(' .. row[1]
      if rooms[place] > 0 then
        rooms[place] = rooms[place] - 1
        free = free - 1
        fits[#fits + 1] = {KEYS[i], row[1], row[2]}
        of_stream[i] = of_stream[i] + 1
        steps_past = steps_past or passed
        if i == FIRST + 1 then stay_before = #stay end
      else
        passed = true
        if i == FIRST + 1 then stay[#stay + 1] = {front, row[1], row[2]} end
      end
    end
    count = count * 2  -- few at first: they may be large
  end
  if i == FIRST + 1 then whole_front = ended end
end

local got = {}
local function take(i, count)
  local read = redis.call('XREADGROUP', 'GROUP', 'taskq', ARGV[1], 'COUNT', count, 'STREAMS', KEYS[i], '>')
  if read then got[#got + 1] = {i - FIRST, read[1][2]} end
end
if not steps_past then
  for i = FIRST + 1, #KEYS do
    if of_stream[i] > 0 then take(i, of_stream[i]) end
  end
  return {1, got, flags, state}
end

local moved, count = {}, #fits
if whole_front then
  for n, entry in ipairs(fits) do moved[n] = entry end
end
for n = 1, whole_front and #stay or stay_before do moved[#moved + 1] = stay[n] end
for _, entry in ipairs(moved) do redis.call('XADD', front, '*', unpack(entry[3])) end
for _, entry in ipairs(moved) do redis.call('XDEL', entry[1], entry[2]) end
take(FIRST + 1, count)
return {1, got, flags, state}
