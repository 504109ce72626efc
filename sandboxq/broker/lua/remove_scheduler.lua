-- Remove a scheduler and its next job, if that is still delayed (protocol.md 3.22).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     scheduler id
-- Returns  1 removed, 0 there is none
-- Events   removed
-- A job of it that waits or is being processed stays; it makes no other.
-- @include job_keys
-- @include queue
-- @include slots

local base = KEYS[1]
local id = ARGV[1]

local queue = open_queue(base)
local next_ms = tonumber(call('ZSCORE', base .. 'repeat', id))
if not next_ms then
  return 0
end
local job_id = iteration_id(id, next_ms)
if call('ZREM', queue.delayed, job_id) == 1 then
  delete_jobs({ base .. job_id })
  try('XADD', queue.events, '*', 'event', 'removed', 'jobId', job_id, 'prev', 'delayed')
end
call('ZREM', base .. 'repeat', id)
call('DEL', base .. 'repeat:' .. id)
return 1
