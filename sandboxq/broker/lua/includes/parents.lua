-- Waking parents (bullmq-wire.md 3.0, 3.21). A parent is {key, id, base, flags}: base is its queue's,
-- flags the child's failure policies as stored in its `parent` field.
--   parent_of(parent_key, parent_json)       from the two fields of a child's hash
--   release_parent(parent, now)              PARENT-RELEASE: the caller took it out of its state
--   release_parent_if_waiting(parent, now)   …when it sits in waiting-children
--   release_parent_if_empty(parent, now)     …and no child is pending
--   unlink_softly(child_key, parent)         a child is removed: forget it, and wake the parent
--                                            whose last pending child it was
-- @include markers
-- @include place

local function parent_of(parent_key, parent_json)
  local is_json, stored = pcall(cjson.decode, parent_json or '')
  if is_json and type(stored) == 'table'
    and type(stored.id) == 'string' and type(stored.queueKey) == 'string' then
    return { key = parent_key, id = stored.id, base = stored.queueKey .. ':', flags = stored }
  end
  local base, id = string.match(parent_key, '^(.*:)([^:]*)$')
  return { key = parent_key, id = id or parent_key, base = base or '', flags = {} }
end

local function wake_parent(queue, parent)
  mark_waiting(queue)
  call('XADD', queue.events, '*',
    'event', 'waiting', 'jobId', parent.id, 'prev', 'waiting-children')
end

local function release_parent(parent, now)
  local queue = open_queue(parent.base)
  local stored = call('HMGET', parent.key, 'priority', 'delay')
  local priority, delay = tonumber(stored[1]) or 0, tonumber(stored[2]) or 0
  if delay > 0 then
    call('ZADD', queue.delayed, (now + delay) * 4096, parent.id)
    call('XADD', queue.events, '*',
      'event', 'delayed', 'jobId', parent.id, 'delay', now + delay)
    mark_delayed(queue)
  else
    -- In front of all that waits, but behind others of its priority.
    place_waiting(queue, parent.id, priority, true)
    wake_parent(queue, parent)
  end
end

local function release_parent_if_waiting(parent, now)
  if call('EXISTS', parent.key) == 1
    and call('ZREM', open_queue(parent.base).waiting_children, parent.id) == 1 then
    release_parent(parent, now)
  end
end

local function release_parent_if_empty(parent, now)
  if call('EXISTS', parent.key .. ':dependencies') == 0 then
    release_parent_if_waiting(parent, now)
  end
end

local function unlink_softly(child_key, parent)
  local dependencies = parent.key .. ':dependencies'
  if call('SREM', dependencies, child_key) == 0 or call('EXISTS', dependencies) == 1 then
    return
  end
  local queue = open_queue(parent.base)
  if call('ZREM', queue.waiting_children, parent.id) == 1 then
    call('RPUSH', queue.target, parent.id)
    wake_parent(queue, parent)
  end
end
