-- The fixed window of claims shared by all workers of a queue (protocol.md 3.6, 3.25). The limit set by
-- hand is a window that is used up (stop_claims.lua). Node heeds that only where there is a maximum too.
--   rate_window(queue, max)                 → ms until the next window (0 when open), claims left
--   count_claims(queue, max, duration, n)   n jobs were claimed; the first of a window starts it
-- @include queue

local function rate_window(queue, max)
  local key = queue.base .. 'limiter'
  local claimed = whole(try('GET', key)) or 0
  max = max or MOST_EXACT
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
  if not (max and duration and n > 0) then
    return
  end
  local key = queue.base .. 'limiter'
  local count = try('INCRBY', key, n)
  if type(count) ~= 'number' then
    -- No counter: a window begins with these.
    call('SET', key, n)
    count = n
  end
  if count == n then
    call('PEXPIRE', key, math.floor(duration))
  end
end
