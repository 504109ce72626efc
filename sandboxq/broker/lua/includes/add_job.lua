-- add_job(queue, job, now): one job of an add (protocol.md 3.2 to 3.5). Returns its id, that of the
-- job found instead, or -5 its parent does not exist, -7 its id already has another parent, -13 it would wait
-- for itself.
-- job: name data opts, and what applies of id (custom) timestamp (ms) delay (ms) priority is_lifo
--      parent_key parent (JSON) de binary (what stands in `sq:binary`; removed when the job is
--      not added); of a flow also has_children (it waits for them first) and
--      is_in_flow (its parents are released when all of the flow has been added)
-- What a job needs is looked at before it is written anywhere.
-- @include enqueue
-- @include attach
-- @include deduplicate
-- @include next_id

local function add_job(queue, job, now)
  job.timestamp = job.timestamp or now
  job.delay = job.delay or 0
  job.priority = job.priority or 0
  if job.parent_key and call('EXISTS', job.parent_key) == 0 then
    drop_binary(queue.base, job.binary)
    return -5
  end
  check_places(queue, job)
  local id = job.id or string.format('%.0f', next_id(queue, 1))
  if job.id then
    skip_id(queue)
  end
  if job.id and call('EXISTS', queue.base .. id) == 1 then
    drop_binary(queue.base, job.binary)
    return attach_duplicate(queue, id, job, now)
  end
  local existing = job.de and deduplicate(queue, id, job)
  if existing then
    drop_binary(queue.base, job.binary)
    return existing
  end
  store_job(queue, id, job)
  if job.has_children then
    await_children(queue, id, job)
  else
    enqueue(queue, id, job)
  end
  if job.parent_key then
    call('SADD', job.parent_key .. ':dependencies', queue.base .. id)
  end
  return id
end
