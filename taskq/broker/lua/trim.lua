-- Drop what a topic need not keep, also when nothing is published any more.
--
-- KEYS  1 events   2 topic
-- Returns how many events are left.
-- include trim
local limits = redis.call('HMGET', KEYS[2], 'age', 'events', 'bytes')
trim(KEYS[1], tonumber(limits[1] or 0), tonumber(limits[2] or 0), tonumber(limits[3] or 0))
return redis.call('XLEN', KEYS[1])
