-- Attempts whose processor had the job moved; none of them counts (protocol.md 3.14 to 3.16).
--   postpone(batch, id, key, job, '', delay)       to delayed for so many ms
--   await_children(batch, id, key, job)            to waiting-children; in front of all others when
--                                                  no child is pending, as the last one would have
--                                                  put it there
--   limit_rate(batch, id, key, job, '', duration)  nobody claims for so many ms; in front of all others
-- job: ats, atm. → 0 or -3, not active
-- @include active
-- @include batch
-- @include retry
-- @include stop_claims

local function postpone(batch, id, key, job, _, delay)
  if not leave_active(batch, id, -1) then
    return -3
  end
  delay_job(batch, id, key, whole(delay) or 0)
  return 0
end

local function await_children(batch, id, key, job)
  local queue = batch.queue
  if call('EXISTS', key .. ':dependencies') == 0 then
    return hand_back(batch, id, key, job, '', '1')
  end
  if not leave_active(batch, id, -1) then
    return -3
  end
  call('ZADD', queue.waiting_children, batch.now, id)
  try('XADD', queue.events, '*', 'event', 'waiting-children', 'jobId', id, 'prev', 'active')
  return 0
end

local function limit_rate(batch, id, key, job, _, duration)
  stop_claims(batch.queue, whole(duration) or 0)
  return hand_back(batch, id, key, job, '', '1')
end
