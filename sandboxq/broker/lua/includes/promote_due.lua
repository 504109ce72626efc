-- promote_due(queue, now): move up to 1000 due jobs from delayed to where they wait (PROMOTE-DUE).
-- @include markers
-- @include place

local function promote_due(queue, now)
  local ids =
    call('ZRANGEBYSCORE', queue.delayed, 0, (now + 1) * 4096 - 1, 'LIMIT', 0, 1000)
  if #ids == 0 then
    return
  end
  call('ZREM', queue.delayed, unpack(ids))
  for i = 1, #ids do
    local id = ids[i]
    local key = queue.base .. id
    local job = call('HMGET', key, 'name', 'priority')
    -- An id without a job is dropped: nobody could run it.
    if job[1] then
      place_waiting(queue, id, tonumber(job[2]) or 0, false)
      call('XADD', queue.events, '*', 'event', 'waiting', 'jobId', id, 'prev', 'delayed')
      call('HSET', key, 'delay', '0')
    end
  end
  mark_waiting(queue)
end
