-- Find consumers that hold deliveries but have no lease, and mark them for recovery.
--
-- KEYS  1 consumers  2.. streams
-- Returns how many were marked.
-- A blocked read outlives its worker's lease: what arrives on it after the recovery is delivered to a name that
-- nobody watches any more. The mark is that of recover.lua; such deliveries never ran, so they are not charged.
local marked = 0
for i = 2, #KEYS do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[i], 'taskq')
  if not consumers.err then
    for _, row in ipairs(consumers) do
      local name, pending = row[2], row[4]
      if pending > 0 and not redis.call('ZSCORE', KEYS[1], name) and not redis.call('ZSCORE', KEYS[1], '!1' .. name) then
        marked = marked + redis.call('ZADD', KEYS[1], 0, '!0' .. name)
      end
    end
  end
end
return marked
