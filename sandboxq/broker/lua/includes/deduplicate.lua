-- deduplicate(queue, id, job): decide whether an add with option `de` goes on (protocol.md 3.5).
-- Returns the id of the job that counts instead, or nil, with job.deid set, when this one is to be added.
-- @include deduplication
-- @include job_keys
-- @include markers
-- @include parents
-- @include place

local function emit_deduplicated(queue, id, deid, other)
  try('XADD', queue.events, 'MAXLEN', '~', max_events(queue), '*',
    'event', 'deduplicated', 'jobId', id, 'deduplicationId', deid, 'deduplicatedJobId', other)
end

-- A key without a ttl lives as long as its job; one whose job is gone would block for ever.
local function is_stale(queue, key, old)
  return call('PTTL', key) == -1 and call('EXISTS', queue.base .. old) == 0
end

local function replace_delayed(queue, id, rule, key, old)
  if call('ZREM', queue.delayed, old) == 0 then
    return false
  end
  local old_key = queue.base .. old
  local stored = fields_of(old_key, 'parentKey', 'parent')
  if stored[1] then
    -- Node leaves its parent waiting for a child that is gone.
    pcall(unlink_softly, old_key, parent_of(stored[1], stored[2]))
  end
  delete_jobs({ old_key })
  try('XADD', queue.events, '*', 'event', 'removed', 'jobId', old, 'prev', 'delayed')
  emit_deduplicated(queue, id, rule.id, old)
  call('DEL', queue.base .. 'dn:' .. rule.id)
  if rule.ttl and not rule.extend and not rule.keepLastIfActive then
    call('SET', key, id, 'KEEPTTL')
  else
    set_deduplication(key, id, rule)
  end
  return true
end

-- Stores the add to be queued when the active job finishes; only the newest one is kept.
local function store_next(queue, id, job, key, old)
  if not job.de.keepLastIfActive or not call('LPOS', queue.active, old) then
    return false
  end
  local next_key = queue.base .. 'dn:' .. job.de.id
  call('DEL', next_key)
  call('HSET', next_key, 'name', job.name, 'data', job.data, 'opts', job.opts, 'jid', id)
  call('PERSIST', key)
  emit_deduplicated(queue, old, job.de.id, id)
  return true
end

-- A job that is still delayed is run when the newest add wanted it.
local function reschedule(queue, job, old)
  if not call('ZSCORE', queue.delayed, old) then
    return
  end
  local due_ms = job.timestamp + job.delay
  call('HSET', queue.base .. old, 'delay', job.delay)
  place_delayed(queue, old, due_ms)
  try('XADD', queue.events, 'MAXLEN', '~', max_events(queue), '*',
    'event', 'delayed', 'jobId', old, 'delay', due_ms)
  mark_delayed(queue)
end

local function deduplicate(queue, id, job)
  local rule = job.de
  local key = queue.base .. 'de:' .. rule.id
  local old = try('GET', key)
  if type(old) == 'table' then
    -- No job's id stands there.
    call('DEL', key)
    old = nil
  end
  job.deid = rule.id
  if old and is_stale(queue, key, old) then
    call('DEL', queue.base .. 'dn:' .. rule.id)
    old = nil
  end
  if not old then
    set_deduplication(key, id, rule)
    return nil
  end
  if rule.replace and replace_delayed(queue, id, rule, key, old) then
    return nil
  end
  if rule.ttl and rule.extend and not rule.replace then
    set_deduplication(key, old, rule)
  end
  if not store_next(queue, id, job, key, old) and not rule.replace then
    emit_deduplicated(queue, old, rule.id, id)
  end
  if rule.reschedule and not rule.replace then
    reschedule(queue, job, old)
  end
  return old
end
