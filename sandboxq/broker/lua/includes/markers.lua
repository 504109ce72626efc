-- Wake-up tokens for workers that block on the marker (bullmq-wire.md 1.4).
--   mark_waiting(queue)  something can be claimed (MARK0); nothing happens when the queue is blocked
--   mark_delayed(queue)  tell when the earliest delayed job is due (MARK1)
-- @include queue

local function mark_waiting(queue)
  if not is_blocked(queue) then
    call('ZADD', queue.marker, 0, '0')
  end
end

local function mark_delayed(queue)
  local first = call('ZRANGE', queue.delayed, 0, 0, 'WITHSCORES')
  if first[2] then
    call('ZADD', queue.marker, tonumber(first[2]) / 4096, '1')
  end
end
