-- Waking parents (protocol.md 3.0, 3.21). A parent is {key, id, base, flags}: base is its queue's,
-- flags the child's failure policies as stored in its `parent` field.
--   parent_of(parent_key, parent_json)       from the two fields of a child's hash
--   job_of(key, near)                        of a job's key, whose id may have colons: near is the base of
--                                            a queue that has its prefix, as a rule
--   release_parent(parent, now, set)         PARENT-RELEASE out of a sorted set that holds it
--   release_parent_if_waiting(parent, now)   …when it sits in waiting-children
--   release_parent_if_empty(parent, now)     …and no child is pending
--   unlink_softly(child_key, parent)         a child is removed: forget it, and wake the parent
--                                            whose last pending child it was
-- A parent leaves the place where it is after it is where it goes.
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

local function job_of(key, near)
  local prefix = string.match(near, '^(.*:)[^:]*:$')
  if prefix and string.sub(key, 1, #prefix) == prefix then
    local queue, id = string.match(string.sub(key, #prefix + 1), '^([^:]*:)(.*)$')
    if queue and call('EXISTS', prefix .. queue .. 'meta') == 1 then
      return { key = key, id = id, base = prefix .. queue, flags = {} }
    end
  end
  return parent_of(key)
end

local function wake_parent(queue, parent)
  mark_waiting(queue)
  try('XADD', queue.events, '*',
    'event', 'waiting', 'jobId', parent.id, 'prev', 'waiting-children')
end

local function release_parent(parent, now, set)
  local queue = open_queue(parent.base)
  local stored = fields_of(parent.key, 'priority', 'delay')
  local priority, delay = priority_of(stored[1]), whole(stored[2]) or 0
  if delay > 0 then
    call('ZADD', queue.delayed, (now + delay) * 4096, parent.id)
    try('XADD', queue.events, '*',
      'event', 'delayed', 'jobId', parent.id, 'delay', now + delay)
    mark_delayed(queue)
  else
    -- In front of all that waits, but behind others of its priority.
    place_waiting(queue, parent.id, priority, true)
    wake_parent(queue, parent)
  end
  call('ZREM', set, parent.id)
end

local function release_parent_if_waiting(parent, now)
  local waiting_children = open_queue(parent.base).waiting_children
  if call('EXISTS', parent.key) == 1 and call('ZSCORE', waiting_children, parent.id) then
    release_parent(parent, now, waiting_children)
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
  if call('ZSCORE', queue.waiting_children, parent.id) then
    call('RPUSH', queue.target, parent.id)
    call('ZREM', queue.waiting_children, parent.id)
    wake_parent(queue, parent)
  end
end
