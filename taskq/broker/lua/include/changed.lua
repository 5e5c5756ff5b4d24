-- Give out the next revision number, and note which schedule it is for: a beat that knows all up to a number reads only
-- what came after it. It reads everything where the list does not go back so far, or an older release left it out.
local function changed(number, changes, schedule)
  local next = redis.call('INCR', number)
  local noted = redis.pcall('XADD', changes, 'MAXLEN', '~', 1000, next .. '-0', 'n', schedule)
  if type(noted) == 'table' and noted.err then redis.call('DEL', changes) end
  return next
end
