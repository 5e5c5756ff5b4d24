-- Drop a topic's oldest events beyond its limits, whole nodes of the stream at a time; a limit of 0 is none.
local function trim(events, age_ms, max_events, max_bytes)
  if age_ms > 0 then
    local time = redis.call('TIME')
    local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - age_ms
    if oldest > 0 then redis.call('XTRIM', events, 'MINID', '~', string.format('%.0f', oldest)) end
  end
  if max_events > 0 then redis.call('XTRIM', events, 'MAXLEN', '~', string.format('%.0f', max_events)) end
  if max_bytes > 0 then
    local bytes = redis.call('MEMORY', 'USAGE', events)
    if bytes and bytes > max_bytes then
      local keep = math.floor(redis.call('XLEN', events) * max_bytes / bytes)
      redis.call('XTRIM', events, 'MAXLEN', '~', string.format('%.0f', keep))
    end
  end
end
