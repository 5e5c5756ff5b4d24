-- Count a queue at one moment. Writes nothing.
--
-- KEYS  1 consumers   2 delayed   3 dead   4 paused   5 history   6 levels   7 stream prefix
--       8 limited     9 prefix of the lists of parked messages   10 holding   11 prefix of the lists of held messages
-- ARGV  1 how many minutes the history has   2 default level
-- Returns {now ms, lag, pending, delayed, dead, birth of the oldest entry not yet delivered in ms (0: none), workers,
--          paused 1 or 0, history of the last minute, history of the present minute,
--          parked}; the histories are '' without one.
-- Lag is a stream's length less what is pending, exact on every server version, because settled entries are deleted;
-- the server's own "lag" turns nil after some deletions.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lag, pending, oldest = 0, 0, 0

-- include lenient

local levels = {'front', ARGV[2]}
for _, level in ipairs(read('SMEMBERS', KEYS[6])) do
  if string.find(level, '^%d$') and level ~= ARGV[2] then levels[#levels + 1] = level end
end
for _, level in ipairs(levels) do
  local stream = KEYS[7] .. level
  local length = count('XLEN', stream)
  if length > 0 then
    local delivered, last = 0, '0-0'
    for _, row in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      local group = {}
      for at = 1, #row, 2 do group[row[at]] = row[at + 1] end
      if group.name == 'taskq' then delivered, last = group.pending, group['last-delivered-id'] end
    end
    pending = pending + delivered
    if length > delivered then
      lag = lag + length - delivered
      local head = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)[1]
      local born = head and tonumber(string.match(head[1], '^%d+')) or 0
      if born > 0 and (oldest == 0 or born < oldest) then oldest = born end
    end
  end
end
-- what waits in lanes, or is held back by a schedule, is not delivered either
lag = lag + math.max(count('HGET', string.sub(KEYS[7], 1, -8) .. 'lanes', 'waiting') or 0, 0)
for _, schedule in ipairs(read('SMEMBERS', KEYS[10])) do lag = lag + count('LLEN', KEYS[11] .. schedule) end
local minute = math.floor(time[1] / 60)
local history = read('HMGET', KEYS[5], (minute - 1) % ARGV[1], minute % ARGV[1])
local parked = 0
for _, task in ipairs(read('SMEMBERS', KEYS[8])) do parked = parked + count('LLEN', KEYS[9] .. task) end
return {
  now, lag, pending, count('ZCARD', KEYS[2]), count('XLEN', KEYS[3]), oldest,
  count('ZCOUNT', KEYS[1], string.format('%.0f', now), '+inf'), redis.call('EXISTS', KEYS[4]),
  history[1] or '', history[2] or '', parked,
}
