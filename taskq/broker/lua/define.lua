-- Register the definition of a schedule, or confirm that it stands.
--
-- KEYS  1 definitions  2 revisions  3 last revision number  4 confirmed  5 changes
-- ARGV  1 schedule  2 revision hash  3 queue  4 definition  5 source: code, config or runtime  6 hash of its timing
--       7 the present ms ('' asks this server)  8 ms after which nobody is taken to have the newer definition any more
--       9 wake channel  10 app whose code it is ('' none)
-- Returns {1 this definition stands, its number, ms since when its timing holds, queues that had it before ...};
--         {0 a newer one stands, its number}; {-1 the name belongs to code that a beat runs, its number}.
-- The newest definition stands. One that was replaced is taken for that of an older release: it is refused while a
-- beat confirms the newer one, and taken up again when none does, as after a deployment was rolled back.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HGET', KEYS[2], ARGV[1])
local record = known and cjson.decode(known) or {hash = '', source = 'runtime', replaced = {}, queues = {}}
local live = now - tonumber(redis.call('HGET', KEYS[4], ARGV[1]) or 0) < tonumber(ARGV[8])

-- include changed
if record.hash ~= ARGV[2] then
  if ARGV[5] == 'runtime' then
    if record.source ~= 'runtime' and live then return {-1, record.number} end
  elseif live then
    for _, hash in ipairs(record.replaced) do
      if hash == ARGV[2] then return {0, record.number} end
    end
  end
  local function remember(list, item)
    local kept = {}
    for _, one in ipairs(list) do
      if one ~= item then kept[#kept + 1] = one end
    end
    if item and item ~= '' then kept[#kept + 1] = item end
    while #kept > 16 do table.remove(kept, 1) end
    return kept
  end
  record.replaced = remember(record.replaced, record.hash)
  if record.queue ~= ARGV[3] then record.queues = remember(record.queues, record.queue) end
  if record.timing ~= ARGV[6] then
    record.timing, record.since = ARGV[6], ARGV[7] == '' and string.format('%.0f', now) or ARGV[7]
  end
  record.number = changed(KEYS[3], KEYS[5], ARGV[1])
  record.hash, record.queue, record.source, record.app = ARGV[2], ARGV[3], ARGV[5], ARGV[10]
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
  redis.call('HSET', KEYS[2], ARGV[1], cjson.encode(record))
  redis.pcall('PUBLISH', ARGV[9], 'changed')
elseif record.app ~= ARGV[10] then
  record.app = ARGV[10]
  redis.call('HSET', KEYS[2], ARGV[1], cjson.encode(record))
end
if ARGV[5] ~= 'runtime' then redis.call('HSET', KEYS[4], ARGV[1], string.format('%.0f', now)) end
local answer = {1, record.number, record.since}
for _, queue in ipairs(record.queues) do
  if queue ~= record.queue then answer[#answer + 1] = queue end
end
return answer
