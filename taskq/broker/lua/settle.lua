-- End deliveries, then fetch the next ones: one round trip for both.
--
-- KEYS  1 consumers  2 delayed  3 dead  4 waiting  5 revoked  6 paused  7.. streams, in the order they are read
-- ARGV  1 consumer   2 how many entries to fetch (0: none)   3 result key prefix   4 wake channel
--       5 number of plain runs, then each run: stream number, count n, n entry ids
--         (completions without a result, in one go)
--       then items, each: kind, stream number, entry id, task id, state letter and outcome ('' for none), its TTL ms,
--       and after these six:
--         'c' complete     -
--         'r' retry        wait ms, level digit with message
--         't' commit       a completion with commands: how many, then each: its length and its words
--         'd' dead letter  message, evidence, fingerprint, label of its group
--         'l' release      crashes to write on it, '' for none: it is not a suspect        (to the front of the queue)
--         'k' give up      claim                         (no end: it stands before the 'd' or 'c' that is one, and
--                                                         gives the message's idempotency key free)
--         'o' over         state, history and held messages of the schedule that sent it, fire time, ms it ran,
--                          its state, stream prefix, levels, default level    (no end either: it stands before one)
--         'n' note         hash, field, key and number as below when there is no entry any more, else '' and 0
--                                                        (no end either: counts the end that comes after it)
--         'q' order        ordering key                  (no end: it stands before the item that is one, and lets the
--                                                         key's next message into the queue when that has ended)
--       and for what was settled before it ran, which therefore has no entry any more:
--         's' store        key, number                   (the outcome only)
--         'e' bury         message, evidence, fingerprint, label, key, number    (the outcome and a dead letter)
--       There key has the number of the last such outcome that this worker has stored: after a lost reply the same
--       items come again, in the same order and under the same numbers.
-- Returns {0} when STALE: the caller has no lease any more, nothing was changed.
--         Else {1, entries per stream: {number, entries}, flags: 1 ids are revoked in this queue + 2 it is paused (then
--               nothing is fetched), refused: entry ids, each followed by what Redis said, commands of 't' that Redis
--               refused, as text, what else it refused, as text ('' for nothing)}.
--         Refused: Redis did not take what the item must write (no memory, a key of another type); it is unchanged.
-- An item acts only on an entry that is pending for the caller, so the same call may be sent again after a lost
-- reply. What an item writes comes before its XACK: an error between the two leaves a message that is still
-- pending, never one that is gone. What may fail after its XACK (its outcome, who is told, its schedule, its lane)
-- stops neither the others nor what is still to be written of it.
-- include lane
-- include over
-- include trim
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {0} end
local FIRST = 6

local at = 6
for _ = 1, tonumber(ARGV[5]) do
  local stream, n = KEYS[FIRST + ARGV[at]], tonumber(ARGV[at + 1])
  redis.call('XACK', stream, 'taskq', unpack(ARGV, at + 2, at + 1 + n))
  redis.call('XDEL', stream, unpack(ARGV, at + 2, at + 1 + n))
  at = at + 2 + n
end

local refused, failed, trouble, total = {}, {}, '', #ARGV
if at <= total then
  local waiting = redis.call('EXISTS', KEYS[4]) == 1
  local earlier = false
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)

  -- what is not of the message itself: a key of another type, or a right that is missing, concerns nothing else
  local function beside(work, ...)
    local done, problem = pcall(work, ...)
    if not done then trouble = type(problem) == 'table' and problem.err or tostring(problem) end
  end

  local function store(task, outcome, ttl)
    if outcome == '' then return end
    -- without memory the body is dropped and the state kept
    local kept = redis.pcall('SET', ARGV[3] .. task, outcome, 'PX', ttl)
    if type(kept) == 'table' and kept.err then
      redis.pcall('SET', ARGV[3] .. task, string.sub(outcome, 1, 1), 'PX', ttl)
    end
  end

  local function tell(task, outcome)
    if waiting then
      local channels = redis.call('HGET', KEYS[4], task)
      if channels then
        redis.call('HDEL', KEYS[4], task)
        for channel in string.gmatch(channels, '%S+') do redis.call('PUBLISH', channel, task .. '\n' .. outcome) end
      end
    end
    if string.sub(outcome, 1, 1) == 'V' then redis.call('ZREM', KEYS[5], task) end
  end

  -- dead letters are counted by fingerprint as they come and go; beyond 1,000 groups all others share one
  local function bury(message, evidence, group, label)
    local groups = KEYS[3] .. ':groups'
    if redis.pcall('HEXISTS', groups, 'n:' .. group) == 0 and redis.call('HLEN', groups) >= 4000 then
      group, label = 'other', ''
    end
    local id = redis.pcall('XADD', KEYS[3], '*', 'm', message, 'i', evidence, 'g', group)
    if type(id) == 'table' then return id end
    beside(function()
      redis.call('HINCRBY', groups, 'n:' .. group, 1)
      redis.call('HSETNX', groups, 'f:' .. group, id)
      redis.call('HSET', groups, 'l:' .. group, label, 'e:' .. group, id)
    end)
  end

  -- an event that commits with its task: see publish.lua
  local function publish(command)
    local events, topic, channel, key, payload, age, most, size, topics, name = unpack(command, 2, 11)
    local total = redis.pcall('HGET', topic, 'total')
    if type(total) == 'table' then return total end
    local words = key == '' and {} or {'k', key}
    local id = redis.pcall('XADD', events, '*', 'm', payload, 'n', tonumber(total or 0) + 1, unpack(words))
    if type(id) == 'table' then return id end
    local ordinal = redis.call('HINCRBY', topic, 'total', 1)
    if redis.call('HDEL', topic, 'asleep') == 1 then redis.call('PUBLISH', channel, 'published') end
    -- for views; on a cluster the list is elsewhere, and the topic's subscribers write it there
    if ordinal % 100 == 1 then redis.pcall('SADD', topics, name) end
    -- nothing may stop the settle by now
    if #payload > 4096 or ordinal % 100 == 0 then
      pcall(trim, events, tonumber(age), tonumber(most), tonumber(size))
    end
    return id
  end

  local function run(command) return redis.pcall(unpack(command)) end

  local base, lane = string.sub(ARGV[3], 1, -8)  -- without 'result:'
  local completions = {}
  local in_order, DAY_MS = true, 86400000

  -- whether what was settled before it ran has no outcome yet, by its key and number at *first*
  local function is_new(first)
    local last = redis.pcall('GET', ARGV[first])
    return type(last) ~= 'string' or tonumber(last) < tonumber(ARGV[first + 1])
  end

  while at <= total do
    local kind, stream, id, task, outcome = ARGV[at], KEYS[FIRST + ARGV[at + 1]], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    local ttl = ARGV[at + 5]
    at = at + 6
    -- first of all: is it ours to end? A re-sent item must not touch what its first sending has written
    local ours, wrote, commands
    if kind == 'c' then
      local of_stream = completions[stream]
      if not of_stream then
        of_stream = {}
        completions[stream] = of_stream
      end
      of_stream[#of_stream + 1] = at - 6
    elseif kind == 's' or kind == 'e' then
      ours = is_new(at + (kind == 'e' and 4 or 0))
    elseif kind == 'q' then
      lane = ARGV[at]
      at = at + 1
    elseif kind == 't' then
      ours = redis.call('XACK', stream, 'taskq', id) == 1
    else
      ours = redis.call('XPENDING', stream, 'taskq', id, id, 1, ARGV[1])[1]
    end
    if kind == 't' then
      local count = tonumber(ARGV[at])
      commands = {}
      at = at + 1
      for n = 1, count do
        local words = tonumber(ARGV[at])
        commands[n] = {unpack(ARGV, at + 1, at + words)}
        at = at + 1 + words
      end
    elseif kind == 'r' then
      if ours then
        local due = now + ARGV[at]
        wrote = redis.pcall('ZADD', KEYS[2], string.format('%.0f', due), ARGV[at + 1])
        earlier = earlier or redis.pcall('ZRANGE', KEYS[2], 0, 0)[1] == ARGV[at + 1]
      end
      at = at + 2
    elseif kind == 'd' or kind == 'e' then
      if ours then wrote = bury(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]) end
      at = at + (kind == 'e' and 6 or 4)
    elseif kind == 's' then
      at = at + 2
    elseif kind == 'l' then
      local entry = ours and redis.call('XRANGE', stream, id, id)[1]
      if entry and ARGV[at] == '' then
        wrote = redis.pcall('XADD', KEYS[FIRST + 1], '*', 'm', entry[2][2])
      elseif entry then
        wrote = redis.pcall('XADD', KEYS[FIRST + 1], '*', 'm', entry[2][2], 'c', ARGV[at])
      end
      at = at + 1
    end
    if kind == 'o' then
      if ours then beside(over, ARGV[4], task, unpack(ARGV, at, at + 8)) end
      ours = false
      at = at + 9
    end
    if kind == 'k' then
      if ours and redis.pcall('GET', ARGV[at]) == task then redis.call('DEL', ARGV[at]) end
      ours = false
      at = at + 1
    end
    if kind == 'n' then
      if ours or (ARGV[at + 2] ~= '' and is_new(at + 2)) then
        redis.pcall('HINCRBY', ARGV[at], ARGV[at + 1], 1)
        redis.call('PEXPIRE', ARGV[at], ttl)
      end
      ours = false
      at = at + 4
    end
    if type(wrote) == 'table' and wrote.err then
      refused[#refused + 1] = id
      refused[#refused + 1] = wrote.err
      -- its number is not done, so those after it must not be taken for the last one: rather stored twice than never
      in_order = in_order and kind ~= 'e'
    elseif ours then
      if in_order and (kind == 's' or kind == 'e') then redis.pcall('SET', ARGV[at - 2], ARGV[at - 1], 'PX', DAY_MS) end
      if kind == 'r' or kind == 'd' or kind == 'l' then redis.call('XACK', stream, 'taskq', id) end
      if kind ~= 's' and kind ~= 'e' then redis.call('XDEL', stream, id) end
      if lane and kind ~= 'l' and kind ~= 'r' then beside(advance, base, lane) end
      for _, command in ipairs(commands or {}) do
        local _, answer = pcall(command[1] == 'taskq.publish' and publish or run, command)
        if type(answer) == 'table' and answer.err then failed[#failed + 1] = task .. ': ' .. answer.err end
      end
      store(task, outcome, ttl)
      if kind ~= 'l' and kind ~= 'r' then beside(tell, task, outcome) end
    end
    if kind ~= 'q' and kind ~= 'n' and kind ~= 'o' and kind ~= 'k' then lane = nil end
  end

  -- completions end together: one XACK and one XDEL for each stream
  for stream, items in pairs(completions) do
    local ids = {}
    for n, item in ipairs(items) do ids[n] = ARGV[item + 2] end
    local all_ours = redis.call('XACK', stream, 'taskq', unpack(ids)) == #ids
    if all_ours then redis.call('XDEL', stream, unpack(ids)) end
    for n, item in ipairs(items) do
      -- after a lost reply this call comes again: what it ended before has no entry any more
      if all_ours or redis.call('XDEL', stream, ids[n]) == 1 then
        store(ARGV[item + 3], ARGV[item + 4], ARGV[item + 5])
        beside(tell, ARGV[item + 3], ARGV[item + 4])
      end
    end
  end
  if earlier then redis.pcall('PUBLISH', ARGV[4], 'delayed') end
end

local want, got = tonumber(ARGV[2]), {}
if want == 0 then return {1, got, 0, refused, failed, trouble} end
local flags = 0
if redis.call('EXISTS', KEYS[5], KEYS[6]) > 0 then
  if redis.call('EXISTS', KEYS[6]) == 1 then want, flags = 0, 2 end
  flags = flags + redis.call('EXISTS', KEYS[5])
end
for i = FIRST + 1, #KEYS do
  if want <= 0 then break end
  local read = redis.pcall('XREADGROUP', 'GROUP', 'taskq', ARGV[1], 'COUNT', want, 'STREAMS', KEYS[i], '>')
  if read and read.err and string.find(read.err, 'WRONGTYPE', 1, true) then
    trouble = KEYS[i] .. ': ' .. read.err -- of this level alone
  elseif read and read.err then
    return read
  elseif read then
    local entries = read[1][2]
    got[#got + 1] = {i - FIRST, entries}
    want = want - #entries
  end
end
return {1, got, flags, refused, failed, trouble}
