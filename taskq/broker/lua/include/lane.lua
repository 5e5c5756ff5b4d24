-- A lane holds the messages of one ordering key that wait for the one before them: of each key, one is in the queue.
-- lanes: hash of 'k<key>' -> messages of that key not ended, and 'waiting' -> how many wait in all lanes.
-- base: what all keys of the queue begin with.
local function join(base, key, level, message)
  if redis.call('HINCRBY', base .. 'lanes', 'k' .. key, 1) == 1 then
    redis.call('XADD', base .. 'stream:' .. level, '*', 'm', message)
  else
    redis.call('RPUSH', base .. 'lane:' .. key, level .. message)
    redis.call('HINCRBY', base .. 'lanes', 'waiting', 1)
  end
end

-- Where and what a stored 'level digit with message' is. What nobody of ours wrote goes to the default level as it is:
-- a worker makes a dead letter of it, with its bytes.
local function routed(stored)
  local level, message = string.match(stored, '^(%d)(.*)$')
  return level or '5', message or stored
end

-- the message that was in the queue has ended: the next one's turn
local function advance(base, key)
  local left = redis.call('HINCRBY', base .. 'lanes', 'k' .. key, -1)
  local next = redis.call('LINDEX', base .. 'lane:' .. key, 0)
  if next then
    local level, message = routed(next)
    redis.call('XADD', base .. 'stream:' .. level, '*', 'm', message)
    redis.call('LPOP', base .. 'lane:' .. key)
    if redis.call('HINCRBY', base .. 'lanes', 'waiting', -1) <= 0 then redis.call('HDEL', base .. 'lanes', 'waiting') end
    if left <= 0 then redis.call('HSET', base .. 'lanes', 'k' .. key, 1 + redis.call('LLEN', base .. 'lane:' .. key)) end
  else
    redis.call('HDEL', base .. 'lanes', 'k' .. key)
  end
end

-- a message on its way into the queue: 'A' to 'J' stand for the levels 0 to 9 of one with an ordering key before it
local function put(base, level, message)
  local line = string.find(level, '^[A-J]$') and string.find(message, '\n', 1, true)
  if not line then
    if not string.find(level, '^%d$') then level, message = routed(level .. message) end
    redis.call('XADD', base .. 'stream:' .. level, '*', 'm', message)
    return level
  end
  level = string.char(string.byte(level) - 17)
  join(base, string.sub(message, 1, line - 1), level, string.sub(message, line + 1))
  return level
end
