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

-- the message that was in the queue has ended: the next one's turn
local function advance(base, key)
  local left = redis.call('HINCRBY', base .. 'lanes', 'k' .. key, -1)
  local next = redis.call('LINDEX', base .. 'lane:' .. key, 0)
  if next then
    redis.call('XADD', base .. 'stream:' .. string.sub(next, 1, 1), '*', 'm', string.sub(next, 2))
    redis.call('LPOP', base .. 'lane:' .. key)
    if redis.call('HINCRBY', base .. 'lanes', 'waiting', -1) <= 0 then redis.call('HDEL', base .. 'lanes', 'waiting') end
    if left <= 0 then redis.call('HSET', base .. 'lanes', 'k' .. key, 1 + redis.call('LLEN', base .. 'lane:' .. key)) end
  else
    redis.call('HDEL', base .. 'lanes', 'k' .. key)
  end
end

-- a message on its way into the queue: 'A' to 'J' stand for the levels 0 to 9 of one with an ordering key before it
local function put(base, level, message)
  if level < 'A' then
    redis.call('XADD', base .. 'stream:' .. level, '*', 'm', message)
    return level
  end
  local line = string.find(message, '\n', 1, true)
  level = string.char(string.byte(level) - 17)
  join(base, string.sub(message, 1, line - 1), level, string.sub(message, line + 1))
  return level
end
