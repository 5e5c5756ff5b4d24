-- 'd' dead letter  message, evidence, fingerprint, label of its group
-- Dead letters are counted by fingerprint as they come and go; beyond 1,000 groups all others share one.
local function bury(first)
  local message, evidence, group, label = unpack(ARGV, first, first + 3)
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

function ends.d(item, first)
  if not owned(item) then return false end
  local refusal = bury(first)
  if refusal then return refusal end
  acknowledge(item)
  return true
end
