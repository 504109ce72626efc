-- Remove the pending children of a job, and theirs, except those that are being processed or have
-- failed (protocol.md 3.21). About a hundred children a call; all that is below one goes with it.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     job id, cursor ('0' at first)
-- Returns  {cursor of the next call ('0': done), number of jobs removed}
-- Events   removed, for each job, in its queue; waiting for a parent that this releases
-- @include parents
-- @include deduplication
-- @include job_keys
-- @include take_out
-- @include trees

local base, id, cursor = KEYS[1], ARGV[1], ARGV[2]
local removed = 0

local function is_spared(child)
  return call('EXISTS', child.key .. ':lock') == 1
    or type(try('ZSCORE', child.base .. 'failed', child.id)) == 'string'
end

local job = { key = base .. id, id = id, base = base }
local page = call('SSCAN', job.key .. ':dependencies', cursor, 'COUNT', 100)

local function children_of(key)
  return key == job.key and page[2] or try('SMEMBERS', key .. ':dependencies')
end

local function leave_parent(child, parent)
  if parent then
    if is_spared(child) then
      return false
    end
    pcall(unlink_softly, child.key, parent)
  end
end

local function remove(child)
  if child.key == job.key then
    return
  end
  local queue = open_queue(child.base)
  local state = take_out(queue, child.id)
  local deid = fields_of(child.key, 'deid')[1]
  if deid then
    forget_deduplication(queue, child.id, deid)
  end
  if call('EXISTS', child.key) == 1 then
    removed = removed + 1
    try('XADD', queue.events, 'MAXLEN', '~', max_events(queue), '*',
      'event', 'removed', 'jobId', child.id, 'prev', state)
  end
  delete_jobs({ child.key })
end

walk(job, children_of, leave_parent, remove)
return { page[1], removed }
