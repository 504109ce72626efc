-- Remove one job and its children, unless one of them is being processed (bullmq-wire.md 3.21).
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

local base = KEYS[1]
local id, with_children = ARGV[1], ARGV[2] == '1'

-- From so many children on, one search of a list for each is what takes longest.
local MANY = 500

local function is_locked(key)
  if call('EXISTS', key .. ':lock') == 1 then
    return true
  end
  if with_children then
    for _, child in ipairs(call('SMEMBERS', key .. ':dependencies')) do
      if is_locked(child) then
        return true
      end
    end
  end
  return false
end

local function children_of(key)
  local children = call('HKEYS', key .. ':processed')
  for _, part in ipairs({
    call('HKEYS', key .. ':failed'),
    call('ZRANGE', key .. ':unsuccessful', 0, -1),
    call('SMEMBERS', key .. ':dependencies'),
  }) do
    for _, child in ipairs(part) do
      children[#children + 1] = child
    end
  end
  return children
end

local has_many = with_children and call('SCARD', base .. id .. ':dependencies') > MANY

local function remove(job)
  local queue = open_queue(job.base)
  if has_many then
    look_through(queue)
  end
  local stored = call('HMGET', job.key, 'parentKey', 'parent', 'deid')
  if stored[1] then
    unlink_softly(job.key, parent_of(stored[1], stored[2]))
  end
  if with_children then
    for _, child in ipairs(children_of(job.key)) do
      -- A finished child may be gone long since.
      if call('EXISTS', child) == 1 then
        remove(parent_of(child))
      end
    end
  end
  local state = take_out(queue, job.id)
  if stored[3] then
    forget_deduplication(queue, job.id, stored[3])
  end
  delete_jobs({ job.key })
  call('XADD', queue.events, 'MAXLEN', '~', max_events(queue), '*',
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
if is_locked(key) then
  return 0
end
remove({ key = key, id = id, base = base })
drop_from_lists()
return 1
