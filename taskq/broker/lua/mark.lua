-- Write down that a suspect message is about to run, so that the next crash can be charged to the right one.
--
-- KEYS  1 consumers   2 stream
-- ARGV  1 consumer    2 entry id    3 1 it runs in a process of its own, 0 in the worker
-- Returns 1 marked, 0 STALE: the entry is not the caller's any more.
-- The mark is the entry's delivery count, set to a number that no counting reaches (1,000,000, or 2,000,000 in a process
-- of its own): it needs no key, and goes with the entry.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
if not redis.call('XPENDING', KEYS[2], 'taskq', ARGV[2], ARGV[2], 1, ARGV[1])[1] then return 0 end
redis.call('XCLAIM', KEYS[2], 'taskq', ARGV[1], 0, ARGV[2], 'RETRYCOUNT', 1000000 * (1 + ARGV[3]), 'JUSTID')
return 1
