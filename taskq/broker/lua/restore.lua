-- Bring exported dead letters back, each once by its identity.
--
-- KEYS  1 dead  2 prefix of the marks of identities
-- ARGV  1 TTL ms of a mark
--       2.. of six: identity, its id when it was exported, message, evidence, fingerprint, label of its group
-- Returns how many were new. One that is still there under its old id, or was brought back before, is skipped.
-- It gets its old id where the stream has none above it, else a new one.
local dead, groups = KEYS[1], KEYS[1] .. ':groups'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local new, first, last, count, labels = 0, {}, {}, {}, {}
local kinds = redis.call('HLEN', groups)

for i = 2, #ARGV, 6 do
  local mark, old, message, group, label = KEYS[2] .. ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 4], ARGV[i + 5]
  local there = redis.call('XRANGE', dead, old, old)[1]
  if not (there and there[2][2] == message) and redis.call('EXISTS', mark) == 0 then
    if not count[group] and redis.call('HEXISTS', groups, 'n:' .. group) == 0 then
      if kinds >= 4000 then group, label = 'other', '' else kinds = kinds + 4 end
    end
    local id
    -- an id of the future would hold back all that come after it
    if tonumber(string.match(old, '^%d+')) <= now then
      id = redis.pcall('XADD', dead, old, 'm', message, 'i', ARGV[i + 3], 'g', group)
    end
    if type(id) ~= 'string' then
      id = redis.call('XADD', dead, '*', 'm', message, 'i', ARGV[i + 3], 'g', group)
    end
    redis.call('SET', mark, '1', 'PX', ARGV[1])
    first[group] = first[group] or id
    last[group], labels[group], count[group] = id, label, (count[group] or 0) + 1
    new = new + 1
  end
end
for group, number in pairs(count) do
  redis.call('HINCRBY', groups, 'n:' .. group, number)
  redis.call('HSETNX', groups, 'f:' .. group, first[group])
  redis.call('HSET', groups, 'l:' .. group, labels[group], 'e:' .. group, last[group])
end
return new
