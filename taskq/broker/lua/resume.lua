-- Deliver a paused queue's messages again.
--
-- KEYS  1 paused
-- ARGV  1 wake channel
-- Returns 1 resumed, 0 it was not paused.
local gone = redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', ARGV[1], 'paused')
return gone
