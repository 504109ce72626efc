-- count_finished(key, finished, now, points): jobs per minute, newest first (bullmq-wire.md 3.12).
-- @include chunks

local function count_finished(key, finished, now, points)
  local count = call('HINCRBY', key, 'count', finished) - finished
  local before = call('HMGET', key, 'prevTS', 'prevCount')
  if not before[1] then
    call('HSET', key, 'prevTS', now, 'prevCount', 0)
    return
  end
  local minutes = math.floor(now / 60000) - math.floor(tonumber(before[1]) / 60000)
  minutes = math.min(minutes, points)
  if minutes <= 0 then
    return
  end
  local rows = { count - (tonumber(before[2]) or 0) }
  for i = 2, minutes do
    rows[i] = 0
  end
  in_chunks('LPUSH', key .. ':data', rows)
  call('LTRIM', key .. ':data', 0, points - 1)
  call('HSET', key, 'prevCount', count, 'prevTS', now)
end
