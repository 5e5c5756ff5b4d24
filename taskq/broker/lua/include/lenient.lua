-- A key of another type, which nothing of ours wrote, reads as an empty one: the rest is still of interest.
local function read(...)
  local answer = redis.pcall(...)
  return type(answer) == 'table' and answer.err and {} or answer
end
local function count(...)
  local answer = redis.pcall(...)
  return type(answer) ~= 'table' and tonumber(answer) or 0
end
