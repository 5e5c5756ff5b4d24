-- Write down that a suspect message is about to run, so that the next crash can be charged to the right one.
--
-- KEYS  1 consumers   2 stream
-- ARGV  1 consumer    2 entry id
-- Returns 1 marked, 0 STALE: the entry is not the caller's any more.
-- The mark is the entry's delivery count, set to a number that no counting reaches: it needs no key of its own,
-- and goes with the entry.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
if not redis.call('XPENDING', KEYS[2], 'taskq', ARGV[2], ARGV[2], 1, ARGV[1])[1] then return 0 end
redis.call('XCLAIM', KEYS[2], 'taskq', ARGV[1], 0, ARGV[2], 'RETRYCOUNT', 1000000, 'JUSTID')
return 1
