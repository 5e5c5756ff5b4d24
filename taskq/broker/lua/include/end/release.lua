-- 'l' release  crashes to write on it, '' for none: it is not a suspect
-- To the front of the queue, nothing charged; nobody who waits is told.
function ends.l(item, first)
  if not owned(item) then return false end
  local entry = redis.call('XRANGE', item.stream, item.id, item.id)[1]
  if entry then
    local words = ARGV[first] == '' and {} or {'c', ARGV[first]}
    local wrote = redis.pcall('XADD', KEYS[FIRST + 1], '*', 'm', entry[2][2], unpack(words))
    if type(wrote) == 'table' then return wrote end
  end
  acknowledge(item)
  item.goes_on = true
  return true
end
