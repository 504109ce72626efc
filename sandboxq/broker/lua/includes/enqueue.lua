-- Writing a new job and queueing it (bullmq-wire.md 3.0 STORE, 3.3).
--   store_job(queue, id, job)  job: name data opts timestamp delay priority, and where they apply
--                              parent_key parent rjk deid binary; emits `added`
--   enqueue(queue, id, job)    into delayed, prioritized or wait by job.delay (ms), .priority, .is_lifo;
--                              .timestamp is when the delay begins; emits `delayed` or `waiting`, and marks
--   await_children(queue, id, job)  into waiting-children; no marker
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
