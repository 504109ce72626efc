-- attach_duplicate(queue, id, job, now): an add found its id taken (protocol.md 3.4). The job there
-- stays as it is; it becomes a child of the new parent when it has none. Returns the id, -7, or -13: the job
-- would be waited for by one that it waits for itself.
--   is_above(key, parent_key)   whether a job is the parent of another, or above that
-- @include parents

-- No flow is so deep; parents that somebody has written in a ring have no end.
local MOST_LEVELS = 1000

local function is_above(key, parent_key)
  for _ = 1, MOST_LEVELS do
    if not parent_key or parent_key == key then
      break
    end
    parent_key = fields_of(parent_key, 'parentKey')[1]
  end
  return parent_key == key
end

local function attach(queue, id, job, now)
  local key = queue.base .. id
  if call('ZSCORE', queue.base .. 'completed', id) then
    call('HSET', job.parent_key .. ':processed', key, call('HGET', key, 'returnvalue') or 'null')
    if not job.is_in_flow then
      release_parent_if_empty(parent_of(job.parent_key, job.parent), now)
    end
  else
    call('SADD', job.parent_key .. ':dependencies', key)
  end
  call('HSET', key, 'parentKey', job.parent_key, 'parent', job.parent)
end

local function attach_duplicate(queue, id, job, now)
  if job.parent_key then
    local old = call('HGET', queue.base .. id, 'parentKey')
    if old and old ~= job.parent_key and call('EXISTS', old) == 1 then
      return -7
    end
    if is_above(queue.base .. id, job.parent_key) then
      return -13
    end
    attach(queue, id, job, now)
  end
  try('XADD', queue.events, 'MAXLEN', '~', max_events(queue), '*',
    'event', 'duplicated', 'jobId', id)
  return id
end
