-- A schedule's message has ended: write that into the schedule's history, and send what was held back until then.
-- base: what all keys of the queue begin with. fire_time: '' where only the id is known.
-- include held
local function over(wake, base, task, schedule, fire_time, ran, ending, default)
  local state, history, held = base .. 'schedule:' .. schedule, base .. 'fires:' .. schedule, base .. 'held:' .. schedule
  local known = redis.call('HMGET', state, 'keep', 'message', 'moved')
  if known[1] and known[1] ~= '0' then
    redis.pcall('XADD', history, 'MAXLEN', known[1], '*', 'k', 'ended', 't', fire_time, 'i', task, 's', ending, 'd', ran)
  end
  if known[2] ~= task then return end
  local waits = redis.call('LINDEX', held, 0)
  if not waits then
    redis.call('HDEL', state, 'message')
    -- the schedule has left this queue, and was kept only for what it still held: see retire.lua
    if known[3] then redis.call('PEXPIRE', state, 86400000) end
    return
  end
  local level, held_task, message = string.match(waits, '^(%d)([^\n]*)\n(.*)$')
  if not level then level, held_task, message = default, '', waits end -- nothing of ours: a dead letter with its bytes
  -- without memory it stays held, and the next fire sends it
  local sent = redis.pcall('XADD', base .. 'stream:' .. level, '*', 'm', message)
  if type(sent) == 'table' and sent.err then return end
  if level ~= default and redis.call('SADD', base .. 'levels', level) == 1 then redis.pcall('PUBLISH', wake, 'levels') end
  redis.call('HSET', state, 'message', held_task)
  redis.call('LPOP', held)
  no_longer_held(base, schedule)
end
