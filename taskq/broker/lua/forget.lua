-- Remove a consumer that has no lease and holds nothing.
--
-- KEYS  1 consumers   2 stream
-- ARGV  1 consumer
-- Returns 1 removed, 0 it lives, holds deliveries, or is not there.
local name = ARGV[1]
for _, lease in ipairs({name, '!0' .. name, '!1' .. name}) do
  if redis.call('ZSCORE', KEYS[1], lease) then return 0 end
end
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[2], 'taskq')
if consumers.err then return 0 end
for _, row in ipairs(consumers) do
  if row[2] == name then
    if row[4] > 0 then return 0 end
    redis.call('XGROUP', 'DELCONSUMER', KEYS[2], 'taskq', name)
    return 1
  end
end
return 0
