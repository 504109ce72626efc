-- stop_claims(queue, duration): nobody claims for so many ms, or longer if so it was (see rate_limit.lua).
-- @include queue

-- The largest integer that Lua and JavaScript count exactly: what BullMQ writes for `used up`.
local USED_UP = '9007199254740991'

local function stop_claims(queue, duration)
  local key = queue.base .. 'limiter'
  if try('GET', key) ~= USED_UP or call('PTTL', key) < duration then
    call('SET', key, USED_UP, 'PX', math.max(duration, 1))
  end
end
