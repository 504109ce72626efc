-- Remove jobs that no state holds (protocol.md 3.21, and gotcha G7).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     candidates: what follows the base in names of hashes
-- Returns  those that were jobs, in no state and unlocked; they are gone
-- Events   waiting for a parent that this releases
-- A hash is a job's when it has all of what every add writes. Anything else stays: Node's own version
-- takes every key that it does not know for a job.
-- @include parents
-- @include deduplication
-- @include job_keys

local base = KEYS[1]
local queue = open_queue(base)

local SETS = { 'completed', 'failed', 'delayed', 'prioritized', 'waiting-children' }
local LISTS = { 'active', 'wait', 'paused' }

local function is_held(id)
  for _, name in ipairs(SETS) do
    if type(try('ZSCORE', base .. name, id)) == 'string' then
      return true
    end
  end
  for _, name in ipairs(LISTS) do
    if type(try('LPOS', base .. name, id)) == 'number' then
      return true
    end
  end
  return call('EXISTS', base .. id .. ':lock') == 1
end

local function remove_if_orphan(id)
  local key = base .. id
  local job = fields_of(key, 'name', 'data', 'opts', 'timestamp', 'parentKey', 'parent', 'deid')
  if not (job[1] and job[2] and job[3] and job[4]) or is_held(id) then
    return false
  end
  if job[5] then
    pcall(unlink_softly, key, parent_of(job[5], job[6]))
  end
  if job[7] then
    forget_deduplication(queue, id, job[7])
  end
  delete_jobs({ key })
  return true
end

local removed = {}
for i = 1, #ARGV do
  if remove_if_orphan(ARGV[i]) then
    removed[#removed + 1] = ARGV[i]
  end
end
return removed
