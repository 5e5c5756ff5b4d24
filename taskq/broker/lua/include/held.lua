-- Messages that a schedule holds back until the one before them has ended: in the list held:<schedule>, whose name is in
-- the set holding while there are some. base: what all keys of the queue begin with.
local function hold(base, schedule, packed)
  redis.call('RPUSH', base .. 'held:' .. schedule, packed)
  redis.call('SADD', base .. 'holding', schedule)
end

-- to be called when one has left the list
local function no_longer_held(base, schedule)
  if redis.call('EXISTS', base .. 'held:' .. schedule) == 0 then redis.call('SREM', base .. 'holding', schedule) end
end
