-- 'r' retry  wait ms, level digit with message      Aside until its time; nobody who waits is told.
local earlier = false

function ends.r(item, first)
  if not owned(item) then return false end
  local wrote = redis.pcall('ZADD', KEYS[2], string.format('%.0f', now + ARGV[first]), ARGV[first + 1])
  if type(wrote) == 'table' then return wrote end
  earlier = earlier or redis.pcall('ZRANGE', KEYS[2], 0, 0)[1] == ARGV[first + 1]
  acknowledge(item)
  item.goes_on = true
  return true
end

function finish.r()
  if earlier then redis.pcall('PUBLISH', ARGV[4], 'delayed') end
end
