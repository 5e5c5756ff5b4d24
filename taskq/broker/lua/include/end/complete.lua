-- 'c' complete  -                        Done. One without follow-ups is ended together with others, see settle.lua.
-- 't' commit    n, n times: how many words, a command's words
--                                        Done, with commands that run with it or not at all: its XACK is the commit.
-- include trim
ends.c = acknowledge

-- an event that commits with its task: see publish.lua
local function publish(command)
  local events, topic, channel, key, payload, age, most, size, topics, name = unpack(command, 2, 11)
  local total = redis.pcall('HGET', topic, 'total')
  if type(total) == 'table' then return total end
  local words = key == '' and {} or {'k', key}
  local id = redis.pcall('XADD', events, '*', 'm', payload, 'n', tonumber(total or 0) + 1, unpack(words))
  if type(id) == 'table' then return id end
  local ordinal = redis.call('HINCRBY', topic, 'total', 1)
  if redis.call('HDEL', topic, 'asleep') == 1 then redis.call('PUBLISH', channel, 'published') end
  -- for views; on a cluster the list is elsewhere, and the topic's subscribers write it there
  if ordinal % 100 == 1 then redis.pcall('SADD', topics, name) end
  -- nothing may stop the settle by now
  if #payload > 4096 or ordinal % 100 == 0 then
    pcall(trim, events, tonumber(age), tonumber(most), tonumber(size))
  end
  return id
end

local function run(command) return redis.pcall(unpack(command)) end

function ends.t(item, first)
  if not acknowledge(item) then return false end
  local word = first + 1
  for _ = 1, tonumber(ARGV[first]) do
    local command = {unpack(ARGV, word + 1, word + ARGV[word])}
    word = word + 1 + ARGV[word]
    local _, answer = pcall(command[1] == 'taskq.publish' and publish or run, command)
    if type(answer) == 'table' and answer.err then failed[#failed + 1] = item.task .. ': ' .. answer.err end
  end
  return true
end
