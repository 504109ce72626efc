-- attach_duplicate(queue, id, job, now): an add found its id taken (bullmq-wire.md 3.4). The job there
-- stays as it is; it becomes a child of the new parent when it has none. Returns the id, or -7.
-- @include parents

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
    attach(queue, id, job, now)
  end
  call('XADD', queue.events, 'MAXLEN', '~', max_events(queue), '*',
    'event', 'duplicated', 'jobId', id)
  return id
end
