-- Claim the idempotency keys of messages that are about to start, each key for one message.
--
-- KEYS  1 consumers   2.. claims, one per message
-- ARGV  1 consumer    2 TTL ms of a claim   3 result key prefix   4.. task ids, one per claim
-- Returns {0} when STALE: the caller has no lease any more, nothing was changed.
--         Else {1, then for each: 1 it is this message's (now, or since an earlier delivery);
--                                 or {task id that has it, that message's outcome or ''}}.
-- A message that ended without success gives its claim back with the settle; so a stale worker, which would claim
-- for a message that may have ended, gets none.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {0} end
local answer = {1}
for i = 2, #KEYS do
  local task = ARGV[i + 2]
  local owner = redis.call('GET', KEYS[i])
  if not owner or owner == task then
    redis.call('SET', KEYS[i], task, 'PX', ARGV[2])
    answer[i] = 1
  else
    answer[i] = {owner, redis.call('GET', ARGV[3] .. owner) or ''}
  end
end
return answer
