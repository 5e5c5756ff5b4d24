-- The last message of a schedule (*id*, false for none), unless it has ended. It says so itself when it is settled or
-- purged; one that went another way (with a release that did not say so) must not hold up the schedule for ever.
-- results, streams: prefixes of their keys.
local function unended(id, results, streams, levels, default, delayed, limited)
  if not id then return false end
  local outcome = redis.call('GETRANGE', results .. id, 0, 0)
  if outcome ~= '' and outcome ~= 'R' then return false end
  if redis.call('EXISTS', delayed, limited) > 0 then return id end
  local names = redis.call('SMEMBERS', levels)
  names[#names + 1] = default
  names[#names + 1] = 'front'
  for _, level in ipairs(names) do
    if redis.call('XLEN', streams .. level) > 0 then return id end
  end
  return false
end
