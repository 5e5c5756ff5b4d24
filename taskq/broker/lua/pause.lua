-- Deliver nothing more of a queue to any worker, until it is resumed.
--
-- KEYS  1 paused
-- ARGV  1 wake channel
-- Returns 1 paused now, 0 it was paused before: then nothing was changed.
-- From here on settle.lua fetches nothing of the queue; the word tells who blocks on it to stop that.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local made = redis.call('SET', KEYS[1], now, 'NX') and 1 or 0
redis.pcall('PUBLISH', ARGV[1], 'paused')
return made
