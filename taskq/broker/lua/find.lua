-- Where one message is, and what came of it: all places at one moment, so that none is missed on its way.
--
-- KEYS  1 result  2 revoked  3 delayed  4 levels  5 limited  6 what the queue's keys begin with
--       7.. lists of messages that schedules hold back
-- ARGV  1 task id   2 the id as it stands in a message, from its third byte on   3 most messages looked at
--       4 default level   5 TTL ms of the mark that an id given by the user was sent   6.. ms at about which it may have come into its queue, or may be due
-- Returns {outcome (false: none), 1 it is marked as revoked, 1 every message was looked at, place, ...}, place one of
--         '' not found, or the message has ended
--         'stream'  level, entry id, message, worker ('' not delivered), ms it has it
--         'delayed' member, due ms      'parked' task, what the list holds      'lane' what the list holds
--         'held'    what the list holds  'dead' entry id, message
-- Where there are more messages than it may look at, it looks first where the message should be: a stream is in the
-- order of sending, as ids of ours are, so that a search by halves finds the spot whatever a sender's clock says.
-- A key of another type, which nothing of ours wrote, reads as an empty one.
-- include lenient
local function word(...)
  local answer = redis.pcall(...)
  return type(answer) ~= 'table' and answer
end

local id, left, base = ARGV[2], tonumber(ARGV[3]), KEYS[6]
local most = left
local outcome = word('GET', KEYS[1])
local revoked = word('ZSCORE', KEYS[2], ARGV[1]) and 1 or 0
if outcome and string.sub(outcome, 1, 1) ~= 'R' then return {outcome, revoked, 1, ''} end

local around = {unpack(ARGV, 6)}
local marked = redis.call('PTTL', base .. 'sent:' .. ARGV[1])
if marked > 0 then  -- it counts from when the message was sent, or was due
  local time = redis.call('TIME')
  around[#around + 1] = time[1] * 1000 + math.floor(time[2] / 1000) + marked - ARGV[5]
end

local function is(message, at) return string.sub(message, at + 2, at + 1 + #id) == id end

local streams, names, lists, sizes = {'front', ARGV[4]}, {}, {}, 0
for _, level in ipairs(read('SMEMBERS', KEYS[4])) do
  if string.find(level, '^%d$') and level ~= ARGV[4] then streams[#streams + 1] = level end
end
for n, level in ipairs(streams) do
  names[n] = base .. 'stream:' .. level
  sizes = sizes + count('XLEN', names[n])
end
for _, task in ipairs(read('SMEMBERS', KEYS[5])) do
  lists[#lists + 1] = {'parked', base .. 'parked:' .. task, task}
end
for n = 7, #KEYS do lists[#lists + 1] = {'held', KEYS[n]} end
local waiting = word('HGET', base .. 'lanes', 'waiting')
local lanes = waiting and count('HLEN', base .. 'lanes') or 0
if lanes > 0 and lanes <= left then
  for _, field in ipairs(read('HKEYS', base .. 'lanes')) do
    if field ~= 'waiting' then lists[#lists + 1] = {'lane', base .. 'lane:' .. string.sub(field, 2)} end
  end
end
for _, list in ipairs(lists) do
  list.size = count('LLEN', list[2])
  sizes = sizes + list.size
end
local delayed = count('ZCARD', KEYS[3])
local all = sizes + delayed <= left and lanes <= left

local function in_stream(n, command, from, to, most)
  local rows = read(command, names[n], from, to, 'COUNT', most)
  for _, row in ipairs(rows) do
    local words = row[2]
    if is(words[2] or '', 1) then
      local pending = redis.pcall('XPENDING', names[n], 'taskq', row[1], row[1], 1)
      local held = not pending.err and pending[1]
      return {outcome, revoked, 1, 'stream', streams[n], row[1], words[2], held and held[2] or '', held and held[3] or 0}
    end
  end
end

-- the ms before which only messages were sent that are older, as far as the messages there tell
local function spot(n)
  local first = read('XRANGE', names[n], '-', '+', 'COUNT', 1)[1]
  local last = read('XREVRANGE', names[n], '+', '-', 'COUNT', 1)[1]
  if not first then return nil end
  local low, high = tonumber(string.match(first[1], '^%d+')), tonumber(string.match(last[1], '^%d+')) + 1
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    local row = read('XRANGE', names[n], string.format('%.0f', middle), '+', 'COUNT', 1)[1]
    local at = row and tonumber(string.match(row[1], '^%d+'))
    if at and at < high and string.sub(row[2][2] or '', 3, 2 + #id) < id then low = at else high = middle end
  end
  return low
end

local function start_of(member)
  return member < 'A' and 2 or (string.find(member, '\n', 1, true) or 0) + 1
end

-- the same among those that are delayed, from one rank to another: those with one countdown are in the order of sending
local function in_delayed_between(low, high, most)
  while high - low > most / 2 do
    local middle = math.floor((low + high) / 2)
    local member = read('ZRANGE', KEYS[3], middle, middle)[1]
    local at = member and start_of(member)
    if at and string.sub(member, at + 2, at + 1 + #id) <= id then low = middle else high = middle end
  end
  low = math.max(low - math.floor(most / 4), 0)
  return read('ZRANGE', KEYS[3], low, low + most, 'WITHSCORES')
end

local function in_delayed(rows)
  for i = 1, #rows, 2 do
    if is(rows[i], start_of(rows[i])) then return {outcome, revoked, 1, 'delayed', rows[i], rows[i + 1]} end
  end
end

local function in_list(list, most)
  for _, item in ipairs(read('LRANGE', list[2], 0, most - 1)) do
    local at = 2
    if list[1] == 'parked' then
      local line = string.find(item, '\n', 1, true) or 0
      at = (string.find(item, '\n', line + 1, true) or 0) + 1
    elseif list[1] == 'held' then
      at = (string.find(item, '\n', 1, true) or 0) + 1
    end
    if is(item, at) then
      if list[1] == 'parked' then return {outcome, revoked, 1, 'parked', list[3], item} end
      return {outcome, revoked, 1, list[1], item}
    end
  end
end

if all then
  for n in ipairs(streams) do
    local found = in_stream(n, 'XRANGE', '-', '+', left)
    if found then return found end
  end
  local found = delayed > 0 and in_delayed(read('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES'))
  if found then return found end
else
  local share = math.floor(left / (2 * #streams + 2))
  for n in ipairs(streams) do
    local low = #id == 18 and spot(n)  -- one of ours
    local found = in_stream(n, 'XRANGE', '-', '+', n == 1 and share or math.floor(share / 4))
    if not found and low then
      found = in_stream(n, 'XRANGE', string.format('%.0f', low), '+', share * 2)
        or in_stream(n, 'XREVRANGE', string.format('(%.0f-0', low), '-', math.floor(share / 4))
    end
    for i = 1, #around do
      found = found or in_stream(n, 'XRANGE', string.format('%.0f', math.max(around[i] - 5, 0)), '+', math.floor(share / 2))
    end
    if found then return found end
  end
  local found = in_delayed(read('ZRANGE', KEYS[3], 0, share, 'WITHSCORES'))
  found = found or in_delayed(in_delayed_between(0, delayed, math.floor(share / 2)))
  for i = 1, #around do
    if not found then
      local from, to = string.format('(%.0f', around[i] - 1000), string.format('%.0f', around[i] + 1000)
      local low, high = count('ZCOUNT', KEYS[3], '-inf', from), count('ZCOUNT', KEYS[3], '-inf', to)
      found = in_delayed(in_delayed_between(low, high, math.floor(share / 2)))
    end
  end
  if found then return found end
  left = share
end
for _, list in ipairs(lists) do
  if list.size > 0 and left > 0 then
    local found = in_list(list, left)
    if found then return found end
    if not all then left = left - list.size end
  end
end
-- one without an outcome: none was kept, or it has expired
for _, row in ipairs(outcome and {} or read('XREVRANGE', base .. 'dead', '+', '-', 'COUNT', most)) do
  if is(row[2][2] or '', 1) then return {outcome, revoked, 1, 'dead', row[1], row[2][2]} end
end
return {outcome, revoked, all and count('XLEN', base .. 'dead') <= most and 1 or 0, ''}
