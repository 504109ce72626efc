-- is_next_iteration(queue, id, scheduler_id): is the job the one by which its scheduler goes on? Without
-- it the scheduler would never run again. scheduler_id: field `rjk`, or false.
-- @include call

local function is_next_iteration(queue, id, scheduler_id)
  local score = scheduler_id and try('ZSCORE', queue.base .. 'repeat', scheduler_id)
  return type(score) == 'string' and id == 'repeat:' .. scheduler_id .. ':' .. score
end
