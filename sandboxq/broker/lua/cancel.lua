-- Fail a job that waits to be run: it was cancelled before anybody began it (no command of BullMQ's).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     now (ms), id, failed reason, rule (JSON, see failure.lua; + keep, attempts)
-- Returns  'cancelled'; or the state in which it was left alone: active, completed, failed, unknown
--          (no such job, or in no state), scheduler (the job by which its scheduler goes on)
-- Events   failed; those of its parents and of the jobs that deduplication had put off
-- No attempt counts.
-- @include close_batch
-- @include ends
-- @include iteration

local base, now, id, reason, rule = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local queue = open_queue(base)
local key = base .. id

local function state_of_others()
  if call('LPOS', queue.active, id) then
    return 'active'
  end
  for _, name in ipairs({ 'completed', 'failed' }) do
    if call('ZSCORE', base .. name, id) then
      return name
    end
  end
  return 'unknown'
end

local function take_from_waiting()
  for _, name in ipairs({ 'waiting-children', 'delayed', 'prioritized' }) do
    if call('ZREM', base .. name, id) == 1 then
      return true
    end
  end
  return call('LREM', base .. 'wait', 0, id) + call('LREM', base .. 'paused', 0, id) > 0
end

local job = fields_of(key, 'ats', 'atm', 'parentKey', 'deid', 'rjk', 'name')
if not job[6] then
  return 'unknown'
end
if is_next_iteration(queue, id, job[5]) then
  return 'scheduler'
end
local batch = new_batch(queue, now)
-- Should the job have nowhere to go, it waits on.
open_outcome(batch.failed)
call('LLEN', queue.active)
if not take_from_waiting() then
  return state_of_others()
end
-- From here on it is as if a run had failed that was not counted.
call('LPUSH', queue.active, id)
job[2] = (whole(job[2]) or 0) - 1
fail(batch, id, key, job, reason, rule)
close_batch(batch, 0)
return 'cancelled'
