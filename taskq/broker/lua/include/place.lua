-- Where a place in a topic is: the id after which reading goes on, and how many of its events are before that.
local function read_at(events, topic, cursor)
  local next = redis.call('XRANGE', events, '(' .. cursor, '+', 'COUNT', 1)[1]
  if next and next[2][3] == 'n' then return tonumber(next[2][4]) - 1 end
  return tonumber(redis.call('HGET', topic, 'total') or 0)
end

-- where: 'earliest', 'latest', epoch ms of the first event to read, or 'after <event id>'
local function place(events, topic, where)
  local cursor = '0-0'
  if where == 'latest' then
    local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
    if last then cursor = last[1] end
  elseif string.sub(where, 1, 6) == 'after ' then
    cursor = string.sub(where, 7)
  elseif where ~= 'earliest' and tonumber(where) > 0 then
    cursor = string.format('%.0f-18446744073709551615', where - 1)
  end
  return cursor, read_at(events, topic, cursor)
end
