-- Take dead letters that are gone out of the counts of their groups; *gone* has how many of each ('' is none).
local function uncount(dead, gone)
  local groups = dead .. ':groups'
  for group, count in pairs(gone) do
    if group ~= '' and redis.call('HINCRBY', groups, 'n:' .. group, -count) <= 0 then
      redis.call('HDEL', groups, 'n:' .. group, 'l:' .. group, 'f:' .. group, 'e:' .. group)
    end
  end
  if redis.call('XLEN', dead) == 0 then redis.call('DEL', groups) end
end
