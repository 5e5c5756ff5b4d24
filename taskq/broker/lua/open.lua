-- Begin a run of a batch job, or go on where an earlier delivery of the same message stopped.
--
-- KEYS  1 consumers   2 job   3.. streams of the queue
-- ARGV  1 consumer    2 stream number of the message   3 its entry id   4 its task id
--       5 window      6 first ms of the window ('' from the last position on)   7 the ms before which it ends ('' now)
-- Returns {'stale'} when the caller has no lease any more, or the entry is not pending for it: nothing was changed.
--         {'busy', task id} while the message of another run is in the hands of a worker.
--         {'done'} when this window has been committed, or lies before one that begins where the last ended.
--         Else {'run', first ms or '', end ms, id of the event to go on after, user state, events done, total or '',
--               id of the last event handled by the run before, its ordinal}.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {'stale'} end
local stream = KEYS[2 + ARGV[2]]
if not redis.call('XPENDING', stream, 'taskq', ARGV[3], ARGV[3], 1, ARGV[1])[1] then return {'stale'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local job = {}
local flat = redis.call('HGETALL', KEYS[2])
for i = 1, #flat, 2 do job[flat[i]] = flat[i + 1] end
local same = job.run == ARGV[4]
if job.status == 'running' and not same then
  local other = KEYS[2 + job.stream]
  local held = redis.pcall('XPENDING', other, 'taskq', job.entry, job.entry, 1)
  if not held.err and held[1] then return {'busy', job.run} end
end
if not (same and job.status == 'running') then
  local last = ARGV[7] ~= '' and ARGV[7] or string.format('%.0f', now)
  local committed = ' ' .. (job.committed or '') .. ' '
  if same or string.find(committed, ' ' .. last .. ' ', 1, true) then return {'done'} end
  if ARGV[6] == '' and tonumber(last) <= tonumber(job.until_ms or 0) then return {'done'} end
  redis.call('HDEL', KEYS[2], 'state', 'total', 'error', 'finished', 'result')
  redis.call('HSET', KEYS[2], 'run', ARGV[4], 'status', 'running', 'window', ARGV[5], 'from', ARGV[6], 'to', last,
    'cursor', '', 'done', 0, 'started', now, 'seen', now)
  job.from, job.to, job.cursor, job.state, job.done, job.total = ARGV[6], last, '', '', '0', ''
end
redis.call('HSET', KEYS[2], 'stream', ARGV[2], 'entry', ARGV[3])
return {
  'run', job.from, job.to, job.cursor, job.state or '', job.done, job.total or '', job.position or '',
  job.ordinal or '0',
}
