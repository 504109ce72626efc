-- Remove one job and its children, unless one of them is being processed (protocol.md 3.21).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     job id, '1' to remove its children too, else '0'
-- Returns  1 removed, 0 it or a pending descendant is locked (nothing was changed),
--          -1 there is no such job, -8 it is the next iteration of a scheduler
-- Events   removed, for each job, in its queue; waiting for a parent that this releases
-- @include parents
-- @include deduplication
-- @include job_keys
-- @include iteration
-- @include take_out
-- @include trees

local base = KEYS[1]
local id, with_children = ARGV[1], ARGV[2] == '1'

-- From so many children on, one search of a list for each is what takes longest.
local MANY = 500
local has_many = with_children
  and (tonumber(try('SCARD', base .. id .. ':dependencies')) or 0) > MANY

local function pending_of(key)
  return with_children and try('SMEMBERS', key .. ':dependencies') or {}
end

local function is_locked(root)
  local is_any = false
  walk(root, pending_of, function(job)
    is_any = is_any or call('EXISTS', job.key .. ':lock') == 1
    return not is_any
  end, function() end)
  return is_any
end

local function children_of(key)
  local children = {}
  if not with_children then
    return children
  end
  for _, part in ipairs({
    try('HKEYS', key .. ':processed'),
    try('HKEYS', key .. ':failed'),
    try('ZRANGE', key .. ':unsuccessful', 0, -1),
    try('SMEMBERS', key .. ':dependencies'),
  }) do
    for _, child in ipairs(part) do
      children[#children + 1] = child
    end
  end
  return children
end

local function leave_parent(job)
  -- A finished child may be gone long since.
  if call('EXISTS', job.key) == 0 then
    return false
  end
  if has_many then
    look_through(open_queue(job.base))
  end
  local stored = fields_of(job.key, 'parentKey', 'parent')
  if stored[1] then
    pcall(unlink_softly, job.key, parent_of(stored[1], stored[2]))
  end
end

local function remove(job)
  local queue = open_queue(job.base)
  local deid = fields_of(job.key, 'deid')[1]
  local state = take_out(queue, job.id)
  if deid then
    forget_deduplication(queue, job.id, deid)
  end
  delete_jobs({ job.key })
  try('XADD', queue.events, 'MAXLEN', '~', max_events(queue), '*',
    'event', 'removed', 'jobId', job.id, 'prev', state)
end

-- Anything else under this name is the queue's own: its settings, a list, a scheduler. A job that has
-- lost most of its hash is one by what a claim or a parent has written.
local function is_job(key)
  if call('TYPE', key).ok ~= 'hash' then
    return false
  end
  local found = call('HMGET', key, 'timestamp', 'ats', 'parentKey')
  return found[1] or found[2] or found[3]
end

local key = base .. id
if not is_job(key) then
  return -1
end
if is_next_iteration({ base = base }, id, call('HGET', key, 'rjk')) then
  return -8
end
local job = { key = key, id = id, base = base }
if is_locked(job) then
  return 0
end
walk(job, children_of, leave_parent, remove)
drop_from_lists()
return 1
