-- Enqueue the message of one fire time, once, whichever beat comes first; or of a run that was asked for by hand.
--
-- KEYS  1 state of the schedule  2 history  3 held  4 levels  5 revoked  6 delayed  7 limited  8 holding
--       9 sent (by hand only)
-- ARGV  1 revision number ('' by hand: neither revision, pause nor earlier fires count)  2 fire time ms
--       3 when it was to happen, ms (the fire time and its jitter)  4 task id  5 level digit  6 message
--       7 overlap: allow, skip, queue or cancel  8 most messages held back  9 most entries of the history
--       10 last fire time as the caller knows it ('' unknown)  11 how many were missed between that one and this
--       12 what all keys of the queue begin with  13 default level  14 wake channel  15 name of the schedule
--       16 TTL ms of a revocation or of KEYS[9]
-- Returns {1 fired, 2 held back until the message before it has ended, 3 skipped because it has not,
--          0 this fire time (or a later one) has been fired before, -1 paused,
--          -2 not armed with this revision, or by hand: the schedule has left this queue;
--          last fire time ms}.
-- include held
-- include unended
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local by_hand = ARGV[1] == ''
local state = redis.call('HMGET', KEYS[1], 'revision', 'moved', 'paused', 'fired', 'message')
local fired = state[4] or '-1'
if by_hand then
  -- what it held here from now on would wait for a fire that never comes
  if state[2] then return {-2, fired} end
  if redis.call('EXISTS', KEYS[9]) == 1 then return {0, fired} end
else
  if state[1] ~= ARGV[1] or state[2] then return {-2, fired} end
  if state[3] then return {-1, fired} end
  if tonumber(fired) >= tonumber(ARGV[2]) then return {0, fired} end
end

local function log(kind, ...)
  if ARGV[9] == '0' then return end
  -- without memory the message matters more than its record
  redis.pcall('XADD', KEYS[2], 'MAXLEN', ARGV[9], '*', 'k', kind, 't', ARGV[2], ...)
end

local function start(level, id, message)
  redis.call('XADD', ARGV[12] .. 'stream:' .. level, '*', 'm', message)
  if level ~= ARGV[13] and redis.call('SADD', KEYS[4], level) == 1 then redis.pcall('PUBLISH', ARGV[14], 'levels') end
  if ARGV[7] ~= 'allow' then redis.call('HSET', KEYS[1], 'message', id) end
end

local answer, before = 1, false
if ARGV[7] ~= 'allow' then
  before = unended(state[5], ARGV[12] .. 'result:', ARGV[12] .. 'stream:', KEYS[4], ARGV[13], KEYS[6], KEYS[7])
end
if before and ARGV[7] == 'skip' then
  answer = 3
elseif before and ARGV[7] == 'queue' then
  answer = redis.call('LLEN', KEYS[3]) < tonumber(ARGV[8]) and 2 or 3
elseif before then
  redis.call('ZADD', KEYS[5], string.format('%.0f', now + ARGV[16]), before)
  if redis.call('PTTL', KEYS[5]) < tonumber(ARGV[16]) then redis.call('PEXPIRE', KEYS[5], ARGV[16]) end
  redis.pcall('PUBLISH', ARGV[14], 'revoked ' .. before)
end

local own = ARGV[5] .. ARGV[4] .. '\n' .. ARGV[6]
if answer == 1 then
  -- What was held back for a message that never said that it ended goes first; all of it, where the definition asks
  -- for no holding back any more.
  local first = redis.call('LINDEX', KEYS[3], 0)
  if first and ARGV[7] == 'queue' then
    hold(ARGV[12], ARGV[15], own)
    answer = 2
  end
  while first do
    local level, id, message = string.match(first, '^(%d)([^\n]*)\n(.*)$')
    start(level or ARGV[13], id or '', message or first)
    redis.call('LPOP', KEYS[3])
    no_longer_held(ARGV[12], ARGV[15])
    first = ARGV[7] ~= 'queue' and redis.call('LINDEX', KEYS[3], 0)
  end
  if answer == 1 then start(ARGV[5], ARGV[4], ARGV[6]) end
elseif answer == 2 then
  hold(ARGV[12], ARGV[15], own)
end
if by_hand then
  if answer ~= 3 then redis.call('SET', KEYS[9], '1', 'PX', ARGV[16]) end
else
  if tonumber(ARGV[11]) > 0 and ARGV[10] == fired then log('missed', 'n', ARGV[11]) end
  fired = ARGV[2]
  redis.call('HSET', KEYS[1], 'fired', fired, 'at', string.format('%.0f', now),
    'late', string.format('%.0f', math.max(now - ARGV[3], 0)))
end
redis.call('HSET', KEYS[1], 'keep', ARGV[9])
log(({'fired', 'held', 'skipped'})[answer], 'i', ARGV[4])
return {answer, fired}
