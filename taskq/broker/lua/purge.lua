-- Drop messages that no worker has: they end as REVOKED, and who waits for them is told.
--
-- KEYS  1 waiting  2 delayed  3 limited  4.. streams, and lists of parked messages
-- ARGV  1 result key prefix   2 TTL ms of an outcome   3 outcome
--       4.. fives: number among KEYS[4..] (below zero: of a list; 0: the delayed set; 'lane': its lane; 'held:' and the
--           schedule that holds it back), entry id (or the list's or set's member), task id ('' for none), claim: the
--           key that keeps its idempotency key ('' for none), ordering key of a message that has its place in a lane
--           ('' for none)
-- Returns how many were dropped.
-- An entry that is pending is a worker's, and stays. What is gone already is skipped, so the same call may be
-- sent again.
-- include held
-- include lane
-- include over
local base, dropped = string.sub(ARGV[1], 1, -8), 0  -- without 'result:'
for at = 4, #ARGV, 5 do
  local number, id, task, claim, lane = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local schedule = string.match(ARGV[at], '^held:(.*)$')
  local gone
  if number == 0 then
    gone = redis.call('ZREM', KEYS[2], id)
  elseif schedule then
    gone = redis.call('LREM', base .. 'held:' .. schedule, 1, id)
    no_longer_held(base, schedule)
  elseif number == nil then
    gone = redis.call('LREM', base .. 'lane:' .. lane, 1, id)
    if gone == 1 then
      redis.call('HINCRBY', base .. 'lanes', 'k' .. lane, -1)
      if redis.call('HINCRBY', base .. 'lanes', 'waiting', -1) <= 0 then redis.call('HDEL', base .. 'lanes', 'waiting') end
    end
  elseif number < 0 then
    local parked = KEYS[3 - number]
    gone = redis.call('LREM', parked, 1, id)
    if redis.call('LLEN', parked) == 0 then redis.call('SREM', KEYS[3], string.match(parked, '}:.-parked:(.*)$')) end
  else
    local stream = KEYS[3 + number]
    local pending = redis.pcall('XPENDING', stream, 'taskq', id, id, 1)
    gone = (pending.err or not pending[1]) and redis.call('XDEL', stream, id) or 0
  end
  if gone == 1 then
    dropped = dropped + 1
    if lane ~= '' and number then advance(base, lane) end
    if claim ~= '' and redis.call('GET', claim) == task then redis.call('DEL', claim) end
    if task ~= '' then
      local kept = redis.pcall('SET', ARGV[1] .. task, ARGV[3], 'PX', ARGV[2])
      if type(kept) == 'table' and kept.err then
        redis.pcall('SET', ARGV[1] .. task, string.sub(ARGV[3], 1, 1), 'PX', ARGV[2])
      end
      local channels = redis.call('HGET', KEYS[1], task)
      if channels then
        for channel in string.gmatch(channels, '%S+') do redis.pcall('PUBLISH', channel, task .. '\n' .. ARGV[3]) end
        redis.call('HDEL', KEYS[1], task)
      end
      redis.call('ZREM', base .. 'revoked', task)
      -- a schedule's message has its name before the '@': what waits for the end of this one goes on
      schedule = schedule or string.match(task, '^(.+)@[^@]*$')
      if schedule then
        pcall(over, base .. 'wake', base, task, schedule, '', 0, 'REVOKED', '5')
      end
    end
  end
end
return dropped
