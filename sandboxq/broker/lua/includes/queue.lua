-- What a script knows of a queue. Notation and rules: protocol.md, 1 and 9.2.
--   open_queue(base)   the queue's keys and settings, read once in a script; base is `<prefix>:<queue>:`
--                      fields: base meta wait active prioritized delayed marker events pc waiting_children
--                      target (the list that pushes go to) is_paused concurrency max duration
--   is_blocked(queue)  paused, or as many jobs active as the queue's concurrency allows (asked anew)
--   max_events(queue)  about how many events the stream keeps; written when nobody has yet
-- Settings that are none, as anybody may write them, count as not set.
-- @include fields
-- @include numbers

local open_queues = {}

local function open_queue(base)
  if open_queues[base] then
    return open_queues[base]
  end
  local meta = base .. 'meta'
  local settings =
    fields_of(meta, 'paused', 'concurrency', 'max', 'duration', 'opts.maxLenEvents', 'version')
  local queue = {
    base = base,
    meta = meta,
    wait = base .. 'wait',
    active = base .. 'active',
    prioritized = base .. 'prioritized',
    delayed = base .. 'delayed',
    marker = base .. 'marker',
    events = base .. 'events',
    pc = base .. 'pc',
    waiting_children = base .. 'waiting-children',
    is_paused = settings[1] and true or false,
    concurrency = finite(settings[2]),
    max = finite(settings[3]),
    duration = finite(settings[4]),
    max_events = whole(settings[5]),
  }
  queue.target = queue.wait
  if queue.is_paused then
    -- v5 clients keep what waits in `paused`, and lose what is in `wait` when they resume.
    local is_v5 = settings[6] and string.sub(settings[6], 1, 9) == 'bullmq:5.'
    local paused = base .. 'paused'
    if is_v5 or call('EXISTS', paused) == 1 then
      queue.target = paused
    end
  end
  open_queues[base] = queue
  return queue
end

local function is_blocked(queue)
  if queue.is_paused then
    return true
  end
  return queue.concurrency ~= nil and call('LLEN', queue.active) >= queue.concurrency
end

local function max_events(queue)
  if not queue.max_events then
    queue.max_events = 10000
    try('HSET', queue.meta, 'opts.maxLenEvents', '10000')
  end
  return queue.max_events
end
