-- Bring exported dead letters back, each once by its identity.
--
-- KEYS  1 dead  2 prefix of the marks of identities
-- ARGV  1 TTL ms of a mark
--       2.. of six: identity, its id when it was exported, message, evidence, fingerprint, label of its group
-- Returns how many were new. One that is still there under its old id, or was brought back before, is passed over.
-- It gets its old id where the stream has none above it, else a new one.
local groups = KEYS[1] .. ':groups'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local new = 0
for i = 2, #ARGV, 6 do
  local mark, old, message, group, label = KEYS[2] .. ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 4], ARGV[i + 5]
  local there = redis.call('XRANGE', KEYS[1], old, old)[1]
  if not (there and there[2][2] == message) and redis.call('EXISTS', mark) == 0 then
    if redis.call('HEXISTS', groups, 'n:' .. group) == 0 and redis.call('HLEN', groups) >= 4000 then
      group, label = 'other', ''
    end
    local id
    -- an id of the future would hold back all that come after it
    if tonumber(string.match(old, '^%d+')) <= now then
      id = redis.pcall('XADD', KEYS[1], old, 'm', message, 'i', ARGV[i + 3], 'g', group)
    end
    if type(id) ~= 'string' then
      id = redis.call('XADD', KEYS[1], '*', 'm', message, 'i', ARGV[i + 3], 'g', group)
    end
    redis.call('SET', mark, '1', 'PX', ARGV[1])
    redis.call('HINCRBY', groups, 'n:' .. group, 1)
    redis.call('HSETNX', groups, 'f:' .. group, id)
    redis.call('HSET', groups, 'l:' .. group, label, 'e:' .. group, id)
    new = new + 1
  end
end
return new
