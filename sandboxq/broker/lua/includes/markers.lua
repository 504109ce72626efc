-- Wake-up tokens for workers that block on the marker (protocol.md 1.4).
--   mark_waiting(queue)  something can be claimed (MARK0); nothing happens when the queue is blocked
--   mark_room(queue)     a job is active no longer: at a concurrency limit this lets others in
--   mark_delayed(queue)  tell when the earliest delayed job is due (MARK1)
-- @include queue

local function mark_waiting(queue)
  if not is_blocked(queue) then
    try('ZADD', queue.marker, 0, '0')
  end
end

-- Who asked while the queue was at its concurrency was told nothing and sleeps.
local function mark_room(queue)
  if queue.concurrency and call('EXISTS', queue.wait, queue.prioritized) > 0 then
    mark_waiting(queue)
  end
end

local function mark_delayed(queue)
  local first = try('ZRANGE', queue.delayed, 0, 0, 'WITHSCORES')
  if first[2] then
    try('ZADD', queue.marker, tonumber(first[2]) / 4096, '1')
  end
end
