-- Writing a new job and queueing it (protocol.md 3.0 STORE, 3.3).
--   store_job(queue, id, job)  job: name data opts timestamp delay priority, and where they apply
--                              parent_key parent rjk deid binary; emits `added`
--   enqueue(queue, id, job)    into delayed, prioritized or wait by job.delay (ms), .priority, .is_lifo;
--                              .timestamp is when the delay begins; emits `delayed` or `waiting`, and marks
--   await_children(queue, id, job)  into waiting-children; no marker
--   check_places(queue, job)   fail where there is no list or set for the job, before anything is written
--   skip_id(queue)             count a job that has an id of its own, as Node does; a counter that is none
--                              keeps it from nothing
-- @include binary
-- @include markers
-- @include place

local function store_job(queue, id, job)
  local fields = {
    'name', job.name, 'data', job.data, 'opts', job.opts,
    'timestamp', job.timestamp, 'delay', job.delay, 'priority', job.priority,
  }
  local function also(field, value)
    if value then
      fields[#fields + 1] = field
      fields[#fields + 1] = value
    end
  end
  also('parentKey', job.parent_key)
  also('parent', job.parent)
  also('rjk', job.rjk)
  also('deid', job.deid)
  also('sq:binary', job.binary)
  call('HSET', queue.base .. id, unpack(fields))
  if job.binary then
    bind_binary(queue.base, id, job.binary, job.delay)
  end
  try('XADD', queue.events, '*', 'event', 'added', 'jobId', id, 'name', job.name)
end

local function enqueue(queue, id, job)
  local limit = max_events(queue)
  if job.delay > 0 then
    local due_ms = job.timestamp + job.delay
    place_delayed(queue, id, due_ms)
    try('XADD', queue.events, 'MAXLEN', '~', limit, '*',
      'event', 'delayed', 'jobId', id, 'delay', due_ms)
    mark_delayed(queue)
  else
    place_waiting(queue, id, job.priority, job.is_lifo)
    mark_waiting(queue)
    try('XADD', queue.events, 'MAXLEN', '~', limit, '*', 'event', 'waiting', 'jobId', id)
  end
end

local function await_children(queue, id, job)
  call('ZADD', queue.waiting_children, job.timestamp, id)
  try('XADD', queue.events, 'MAXLEN', '~', max_events(queue), '*',
    'event', 'waiting-children', 'jobId', id)
end

local function check_places(queue, job)
  if job.has_children then
    call('ZCARD', queue.waiting_children)
  elseif job.delay > 0 then
    call('ZCARD', queue.delayed)
  elseif job.priority ~= 0 then
    call('ZCARD', queue.prioritized)
  else
    call('LLEN', queue.target)
  end
  if job.parent_key then
    call('SCARD', job.parent_key .. ':dependencies')
  end
end

local function skip_id(queue)
  try('INCR', queue.base .. 'id')
end
