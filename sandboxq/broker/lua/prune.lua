-- Remove the pending children of a job, and theirs, except those that are being processed or have
-- failed (bullmq-wire.md 3.21). About a hundred children a call; all that is below one goes with it.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     job id, cursor ('0' at first)
-- Returns  {cursor of the next call ('0': done), number of jobs removed}
-- Events   removed, for each job, in its queue; waiting for a parent that this releases
-- @include parents
-- @include deduplication
-- @include job_keys
-- @include take_out

local base, id, cursor = KEYS[1], ARGV[1], ARGV[2]
local removed = 0

local function is_spared(child)
  return call('EXISTS', child.key .. ':lock') == 1 or call('ZSCORE', child.base .. 'failed', child.id)
end

local function prune(child, parent)
  if is_spared(child) then
    return
  end
  unlink_softly(child.key, parent)
  for _, key in ipairs(call('SMEMBERS', child.key .. ':dependencies')) do
    prune(parent_of(key), child)
  end
  local queue = open_queue(child.base)
  local state = take_out(queue, child.id)
  local deid = call('HGET', child.key, 'deid')
  if deid then
    forget_deduplication(queue, child.id, deid)
  end
  if call('EXISTS', child.key) == 1 then
    removed = removed + 1
    call('XADD', queue.events, 'MAXLEN', '~', max_events(queue), '*',
      'event', 'removed', 'jobId', child.id, 'prev', state)
  end
  delete_jobs({ child.key })
end

local job = { key = base .. id, id = id, base = base }
local page = call('SSCAN', job.key .. ':dependencies', cursor, 'COUNT', 100)
for _, key in ipairs(page[2]) do
  prune(parent_of(key), job)
end
return { page[1], removed }
