-- Delete the oldest dead letters of a queue: those beyond an age or a number, a page at a time.
--
-- KEYS  1 dead
-- ARGV  1 most ms in the queue, '' for no limit   2 most entries, '' for no limit   3 page size
-- Returns {deleted for their age, deleted for their number, 1 when there is more to do now}.
local groups = KEYS[1] .. ':groups'
local time = redis.call('TIME')
local page = tonumber(ARGV[3])

local function delete(entry)
  redis.call('XDEL', KEYS[1], entry[1])
  local group = entry[2][5] == 'g' and entry[2][6]
  if group and redis.call('HINCRBY', groups, 'n:' .. group, -1) <= 0 then
    redis.call('HDEL', groups, 'n:' .. group, 'l:' .. group, 'f:' .. group, 'e:' .. group)
  end
end

local aged, surplus = 0, 0
if ARGV[1] ~= '' then
  local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1] - 1
  if oldest >= 0 then
    for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', string.format('%.0f', oldest), 'COUNT', page)) do
      delete(entry)
      aged = aged + 1
    end
  end
end
if ARGV[2] ~= '' then
  local beyond = math.min(redis.call('XLEN', KEYS[1]) - ARGV[2], page - aged)
  if beyond > 0 then
    for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', beyond)) do
      delete(entry)
      surplus = surplus + 1
    end
  end
end
if aged + surplus > 0 and redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', groups) end
return {aged, surplus, aged + surplus >= page and 1 or 0}
