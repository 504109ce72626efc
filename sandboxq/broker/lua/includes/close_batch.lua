-- close_batch(batch, metrics_points): what is written once for all attempts of a call: locks, markers,
-- sets of finished jobs, metrics (0 points: none), `drained`, and the length of the event stream. Each of it
-- is written whatever becomes of the others.
-- @include ahead
-- @include batch
-- @include markers
-- @include retention

local function delete(keys)
  -- @include job_keys
  delete_jobs(keys)
end

local function count_in_metrics(batch, outcome, points)
  -- @include metrics
  count_finished(batch.queue.base .. 'metrics:' .. outcome.name, outcome.finished, batch.now, points)
end

local function close_outcome(batch, outcome, metrics_points)
  store_finished(batch, outcome)
  if #outcome.removed > 0 then
    pcall(delete, outcome.removed)
  end
  if metrics_points > 0 and outcome.finished > 0 then
    pcall(count_in_metrics, batch, outcome, metrics_points)
  end
end

local function tell_drained(batch)
  local queue = batch.queue
  if batch.completed.finished + batch.failed.finished > 0
    and call('LLEN', queue.active) == 0
    and call('LLEN', queue.wait) == 0
    and call('ZCARD', queue.prioritized) == 0 then
    call('XADD', queue.events, '*', 'event', 'drained')
  end
end

local function close_batch(batch, metrics_points)
  local queue = batch.queue
  if #batch.unlocked_keys > 0 then
    call('DEL', unpack(batch.unlocked_keys))
    try('SREM', queue.base .. 'stalled', unpack(batch.unlocked_ids))
    try('SREM', ahead_key(queue.base), unpack(batch.unlocked_ids))
  end
  if batch.has_waiting then
    mark_waiting(queue)
  else
    mark_room(queue)
  end
  if batch.has_delayed then
    mark_delayed(queue)
  end
  close_outcome(batch, batch.completed, metrics_points)
  close_outcome(batch, batch.failed, metrics_points)
  pcall(tell_drained, batch)
  try('XTRIM', queue.events, 'MAXLEN', '~', max_events(queue))
end
