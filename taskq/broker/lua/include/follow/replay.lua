-- 'n' count replay  hash, field, TTL ms      Counts the end of a replayed message in the record of its replay.
local counts = {}

function follow.n(_, first)
  local record, field, ttl = unpack(ARGV, first, first + 2)
  local of_record = counts[record] or {ttl = ttl, fields = {}}
  of_record.fields[field] = (of_record.fields[field] or 0) + 1
  counts[record] = of_record
end

function finish.n()
  for record, counted in pairs(counts) do
    beside(function() -- a record of another type costs the others nothing
      for field, count in pairs(counted.fields) do redis.call('HINCRBY', record, field, count) end
      redis.call('PEXPIRE', record, counted.ttl)
    end)
  end
end
