-- promote_due(queue, now): move up to 1000 due jobs from delayed to where they wait (PROMOTE-DUE).
-- One that cannot be put there stays delayed.
-- @include queue

-- Seldom anything is due.
local function promote(queue, ids)
  -- @include markers
  -- @include place
  local function promote_one(id)
    local key = queue.base .. id
    local job = fields_of(key, 'name', 'priority')
    -- An id without a job is dropped: nobody could run it.
    if job[1] then
      place_waiting(queue, id, priority_of(job[2]), false)
      try('XADD', queue.events, '*', 'event', 'waiting', 'jobId', id, 'prev', 'delayed')
      call('HSET', key, 'delay', '0')
    end
  end
  local promoted = {}
  for i = 1, #ids do
    if pcall(promote_one, ids[i]) then
      promoted[#promoted + 1] = ids[i]
    end
  end
  if #promoted > 0 then
    call('ZREM', queue.delayed, unpack(promoted))
    mark_waiting(queue)
  end
end

local function promote_due(queue, now)
  local ids =
    try('ZRANGEBYSCORE', queue.delayed, 0, (now + 1) * 4096 - 1, 'LIMIT', 0, 1000)
  if #ids > 0 then
    promote(queue, ids)
  end
end
