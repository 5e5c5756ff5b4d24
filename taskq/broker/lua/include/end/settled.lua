-- For what was settled before it ran, which therefore has no entry any more:
-- 's' store  key, number                                              The outcome only.
-- 'e' bury   key, number, message, evidence, fingerprint, label       The outcome and a dead letter.
-- The key has the number of the last such outcome that this worker has stored: after a lost reply the same items come
-- again, in the same order and under the same numbers.
-- include end/dead_letter
local in_order, DAY_MS = true, 86400000

local function is_new(first)
  local last = redis.pcall('GET', ARGV[first])
  return type(last) ~= 'string' or tonumber(last) < tonumber(ARGV[first + 1])
end

local function count(first)
  if in_order then redis.pcall('SET', ARGV[first], ARGV[first + 1], 'PX', DAY_MS) end
  return true
end

function ends.s(_, first) return is_new(first) and count(first) end

function ends.e(_, first)
  if not is_new(first) then return false end
  local refusal = bury(first + 2)
  if refusal then
    -- its number is not done, so those after it must not be taken for the last one: rather stored twice than never
    in_order = false
    return refusal
  end
  return count(first)
end
