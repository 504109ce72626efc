-- The fixed window of claims shared by all workers of a queue (bullmq-wire.md 3.6, 3.25).
--   rate_window(queue, max)                 → ms until the next window (0 when open), claims left
--   count_claims(queue, max, duration, n)   n jobs were claimed; the first of a window starts it
-- @include queue

local function rate_window(queue, max)
  if not max then
    return 0, math.huge
  end
  local key = queue.base .. 'limiter'
  local claimed = tonumber(call('GET', key)) or 0
  if claimed < max then
    return 0, max - claimed
  end
  local ttl = call('PTTL', key)
  if ttl > 0 then
    return ttl, 0
  end
  -- A window that is over, or one that nobody gave an end.
  call('DEL', key)
  return 0, max
end

local function count_claims(queue, max, duration, n)
  if max and duration and n > 0 and call('INCRBY', queue.base .. 'limiter', n) == n then
    call('PEXPIRE', queue.base .. 'limiter', math.floor(math.abs(duration)))
  end
end
