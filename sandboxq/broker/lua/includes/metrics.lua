-- count_finished(key, finished, now, points): jobs per minute, newest first (protocol.md 3.12).
-- @include chunks
-- @include numbers

local function count_finished(key, finished, now, points)
  local before = call('HMGET', key, 'prevTS', 'prevCount', 'count')
  local count = whole(before[3]) or 0
  call('HSET', key, 'count', count + finished)
  local previous = whole(before[1])
  if not previous then
    call('HSET', key, 'prevTS', now, 'prevCount', 0)
    return
  end
  local minutes = math.floor(now / 60000) - math.floor(previous / 60000)
  minutes = math.min(minutes, points)
  if minutes <= 0 then
    return
  end
  local rows = { count - (whole(before[2]) or 0) }
  for i = 2, minutes do
    rows[i] = 0
  end
  in_chunks('LPUSH', key .. ':data', rows)
  call('LTRIM', key .. ':data', 0, points - 1)
  call('HSET', key, 'prevCount', count, 'prevTS', now)
end
