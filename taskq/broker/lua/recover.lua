-- Take the deliveries of one worker away from it and put them at the front of the queue, a page at a time.
--
-- KEYS  1 consumers  2 renewed  3.. streams, the first of them is the front
-- ARGV  1 consumer to retire; '' for any whose lease has run out while others could renew theirs (see heartbeat.lua)
--       2 1 the worker died, 0 it hands back in peace: then nothing is charged
--       3 page size; a page of large messages ends at a megabyte, so that the call stays short
-- Returns {messages moved, 1 when there is more to do now, ms until the next lease runs out (-1: no lease),
--          the consumer ('' for none)}.
-- Before its first message moves, the consumer's name in KEYS[1] is replaced by a mark, '!' with the charge and the
-- name: from then on its settles and renewals are STALE. The mark has score 0 and goes when the pending list is
-- empty, so a recovery that dies half way is taken up by the next worker that looks.
local page = tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- see heartbeat.lua
local function somebody_renews()
  local last = redis.pcall('GET', KEYS[2])
  local at, patience = string.match(type(last) == 'string' and last or '', '^(%d+) (%d+) %d+$')
  return at and now - at <= tonumber(patience)
end

local function earliest()
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return first[1], first[1] and tonumber(first[2])
end

-- Which of a dead worker's messages killed it? On first sight all are suspects, with 0 crashes. A suspect runs alone
-- and marked (see mark.lua), so the next time the marked one is charged, for both crashes, and no other. One that runs
-- in a process of its own kills that, and seldom the worker: it is charged for this crash only.
local function crashes_after(fields, deliveries)
  local crashes = fields[3] == 'c' and tonumber(fields[4]) or nil
  if not crashes then return 0 end
  if deliveries < 1000000 then return crashes end
  if deliveries >= 2000000 then return crashes + 1 end
  return crashes == 0 and 2 or crashes + 1
end

local mark, deadline
if ARGV[1] == '' then
  mark, deadline = earliest()
  if not mark or deadline > now then return {0, 0, mark and deadline - now or -1, ''} end
  if string.sub(mark, 1, 1) ~= '!' and not somebody_renews() then return {0, 0, 0, ''} end
else
  mark = ARGV[1]
end
if string.sub(mark, 1, 1) ~= '!' then
  redis.call('ZREM', KEYS[1], mark)
  mark = '!' .. ARGV[2] .. mark
  redis.call('ZADD', KEYS[1], 0, mark)
end
local charge, who = tonumber(string.sub(mark, 2, 2)), string.sub(mark, 3)

local moved, bytes = 0, 0
for i = 3, #KEYS do
  local pending = redis.pcall('XPENDING', KEYS[i], 'taskq', '-', '+', page - moved, who)
  if not pending.err then
    for _, row in ipairs(pending) do
      if bytes >= 1000000 then return {moved, 1, 0, who} end
      local entry = redis.call('XRANGE', KEYS[i], row[1], row[1])[1]
      if entry then
        local fields = entry[2]
        -- what is not a message of ours keeps all its fields for the dead letter queue
        if charge == 1 and fields[1] == 'm' then fields = {'m', fields[2], 'c', crashes_after(fields, row[4])} end
        redis.call('XADD', KEYS[3], '*', unpack(fields))
        bytes = bytes + #fields[2]
      end
      redis.call('XACK', KEYS[i], 'taskq', row[1])
      redis.call('XDEL', KEYS[i], row[1])
      moved = moved + 1
    end
  end
  if moved >= page then return {moved, 1, 0, who} end
end
-- only now: XGROUP DELCONSUMER would drop whatever is still pending
for i = 3, #KEYS do redis.pcall('XGROUP', 'DELCONSUMER', KEYS[i], 'taskq', who) end
redis.call('ZREM', KEYS[1], mark)
local next, at = earliest()
return {moved, next and at <= now and 1 or 0, next and math.max(0, at - now) or -1, who}
