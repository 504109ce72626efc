-- Remove up to 100 jobs of one state (protocol.md 3.21, clean and drain), each only while it is there.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     list or set: wait, paused, active, prioritized, delayed, completed, failed;
--          the newest time (ms) at which a job may have been touched, '' for any;
--          how many to remove at most; then job ids
-- Returns  for each 1 removed, 0 it stays: it is too new, locked, its scheduler's next iteration, or
--          no longer there
-- Events   none
-- @include unlink_hard
-- @include deduplication
-- @include iteration

local base = KEYS[1]
local name, newest, room = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local queue = open_queue(base)
local source = base .. name
local is_list = name == 'wait' or name == 'paused' or name == 'active'
local is_finished = name == 'completed' or name == 'failed'

-- The first of these that a job has is when it was touched last.
local TIMES = {
  completed = { 'finishedOn' },
  failed = { 'finishedOn' },
  delayed = { 'processedOn', 'timestamp' },
  prioritized = { 'timestamp' },
}
local times = TIMES[name] or { 'finishedOn', 'processedOn', 'timestamp' }

local function is_too_new(key)
  if not newest then
    return false
  end
  local found = fields_of(key, unpack(times))
  for i = 1, #times do
    if found[i] then
      return (tonumber(found[i]) or 0) > newest
    end
  end
  return false
end

local function take_away(id)
  if is_list then
    -- The oldest are at the tail.
    return call('LREM', source, -1, id) == 1
  end
  return call('ZREM', source, id) == 1
end

local removed_keys = {}

local function clean(id)
  local key = base .. id
  local job = fields_of(key, 'parentKey', 'parent', 'deid', 'rjk')
  if room <= 0 or is_too_new(key)
    or (name == 'active' and call('EXISTS', key .. ':lock') == 1)
    or (not is_finished and is_next_iteration(queue, id, job[4]))
    or not take_away(id) then
    return 0
  end
  if job[1] then
    unlink_hard(key, parent_of(job[1], job[2]), queue)
  end
  if job[3] then
    forget_deduplication(queue, id, job[3])
  end
  removed_keys[#removed_keys + 1] = key
  room = room - 1
  return 1
end

local codes = {}
for at = 4, #ARGV do
  codes[at - 3] = clean(ARGV[at])
end
delete_jobs(removed_keys)
if name == 'active' and #removed_keys > 0 then
  mark_room(queue)
end
return codes
