-- Delete the oldest dead letters of a queue: those beyond an age or a number, a page at a time.
--
-- KEYS  1 dead
-- ARGV  1 most ms in the queue, '' for no limit   2 most entries, '' for no limit   3 page size
-- Returns {deleted for their age, deleted for their number, 1 when there is more to do now}.
-- A page ends early when its letters are large.
-- include uncount
local page = tonumber(ARGV[3])
local gone, bytes = {}, 0

local function delete(last, most)
  local deleted, more = 0, true
  while deleted < most and bytes < 1000000 and more do
    local wanted = math.min(most - deleted, 20)
    local entries = redis.call('XRANGE', KEYS[1], '-', last, 'COUNT', wanted)
    for _, entry in ipairs(entries) do
      local fields = entry[2]
      redis.call('XDEL', KEYS[1], entry[1])
      if fields[5] == 'g' then gone[fields[6]] = (gone[fields[6]] or 0) + 1 end
      bytes = bytes + #(fields[2] or '') + #(fields[4] or '')
    end
    deleted = deleted + #entries
    more = #entries == wanted
  end
  return deleted
end

local aged, surplus = 0, 0
if ARGV[1] ~= '' then
  local time = redis.call('TIME')
  local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1] - 1
  if oldest >= 0 then aged = delete(string.format('%.0f', oldest), page) end
end
if ARGV[2] ~= '' then surplus = delete('+', math.min(redis.call('XLEN', KEYS[1]) - ARGV[2], page - aged)) end
if aged + surplus > 0 then uncount(KEYS[1], gone) end
return {aged, surplus, (aged + surplus >= page or bytes >= 1000000) and 1 or 0}
