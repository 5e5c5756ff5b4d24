-- End deliveries, then fetch the next ones: one round trip for both.
--
-- KEYS  1 consumers  2 delayed  3 dead  4 waiting  5 revoked  6 paused  7.. streams, in the order they are read
-- ARGV  1 consumer   2 how many entries to fetch (0: none)   3 result key prefix   4 wake channel
--       5 what all keys of the queue begin with
--       6 number of plain runs, then each run: stream number, count n, n entry ids
--         (completions without a result, in one go)
--       then items, each: kind of its end, stream number, entry id, task id, outcome ('' for none), its TTL ms,
--       and how many words follow. These are: how many of them are the end's, these, then each follow-up: its kind,
--       how many words it has, and these. What the words of each kind are is said in include/end and include/follow.
-- Returns {0} when STALE: the caller has no lease any more, nothing was changed.
--         Else {1, entries per stream: {number, entries}, flags: 1 ids are revoked in this queue + 2 it is paused (then
--               nothing is fetched), refused: entry ids, each followed by what Redis said, commands of a commit that
--               Redis refused, as text, what else it refused, as text ('' for nothing)}.
--         Refused: Redis did not take what the end must write (no memory, a key of another type); it is unchanged.
-- An item acts only on an entry that is pending for the caller, so the same call may be sent again after a lost
-- reply. What an end writes comes before its XACK: an error between the two leaves a message that is still
-- pending, never one that is gone. What comes after its XACK (follow-ups, the outcome, who is told) stops neither the
-- others nor what is still to be written of it.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {0} end
local FIRST = 6

local at = 7
for _ = 1, tonumber(ARGV[6]) do
  local stream, n = KEYS[FIRST + ARGV[at]], tonumber(ARGV[at + 1])
  redis.call('XACK', stream, 'taskq', unpack(ARGV, at + 2, at + 1 + n))
  redis.call('XDEL', stream, unpack(ARGV, at + 2, at + 1 + n))
  at = at + 2 + n
end

local refused, failed, trouble, total = {}, {}, '', #ARGV
if at <= total then
  local base = ARGV[5]
  local waiting = redis.call('EXISTS', KEYS[4]) == 1
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)

  -- what is not of the message itself: a key of another type, or a right that is missing, concerns nothing else
  local function beside(work, ...)
    local done, problem = pcall(work, ...)
    if not done then trouble = type(problem) == 'table' and problem.err or tostring(problem) end
  end

  local function owned(item)
    return redis.call('XPENDING', item.stream, 'taskq', item.id, item.id, 1, ARGV[1])[1]
  end

  local function acknowledge(item)
    -- what is pending for nobody (the group was made anew) is a message that will be delivered, and must stay
    if redis.call('XACK', item.stream, 'taskq', item.id) == 0 then return false end
    redis.call('XDEL', item.stream, item.id)
    return true
  end

  -- ends: kind -> function(item, number of its first word in ARGV); false where it is not the caller's to end, Redis's
  -- error where that refused what must be written, else true. finish: what the ends and follow-ups do after the last item.
  local ends, follow, finish = {}, {}, {}
  -- include end/complete
  -- include end/retry
  -- include end/dead_letter
  -- include end/release
  -- include end/settled
  -- include follow/lane
  -- include follow/schedule
  -- include follow/claim
  -- include follow/replay

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

  local completions = {}
  while at <= total do
    local kind, stream, size = ARGV[at], KEYS[FIRST + ARGV[at + 1]], tonumber(ARGV[at + 6])
    if kind == 'c' and size == 0 then
      local of_stream = completions[stream]
      if not of_stream then
        of_stream = {}
        completions[stream] = of_stream
      end
      of_stream[#of_stream + 1] = at
    else
      local item = {stream = stream, id = ARGV[at + 2], task = ARGV[at + 3], outcome = ARGV[at + 4]}
      local wrote = ends[kind](item, at + 8)
      if type(wrote) == 'table' then
        refused[#refused + 1] = item.id
        refused[#refused + 1] = wrote.err
      elseif wrote then
        local word, last = at + 8 + tonumber(ARGV[at + 7]), at + 6 + size
        while word <= last do
          if follow[ARGV[word]] then beside(follow[ARGV[word]], item, word + 2) end
          word = word + 2 + tonumber(ARGV[word + 1])
        end
        store(item.task, item.outcome, ARGV[at + 5])
        if not item.goes_on then beside(tell, item.task, item.outcome) end
      end
    end
    at = at + 7 + size
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
  for _, work in pairs(finish) do beside(work) end
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
