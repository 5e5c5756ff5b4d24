-- Redis's clock may be set back: what was written before has a time that is still to come, and would count until then.
-- A start counts from *guard* ms from now at the latest, a permit that is held from *hold* ms.
local function clamp(permits, now, guard, hold)
  local ahead = redis.call('ZRANGEBYSCORE', permits, string.format('(%.3f', now + guard), '+inf', 'WITHSCORES')
  for n = 1, #ahead, 2 do
    local most = now + (string.sub(ahead[n], 1, 1) == 'g' and math.max(hold, guard) or guard)
    if tonumber(ahead[n + 1]) > most + 1 then redis.call('ZADD', permits, string.format('%.3f', most), ahead[n]) end
  end
end
