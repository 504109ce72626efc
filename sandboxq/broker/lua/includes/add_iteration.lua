-- add_iteration(queue, id, ms, now, job): queue the job by which scheduler `id` runs at ms. Returns the
-- job's id and its delay.
-- job: name data priority is_lifo, and opts: a JSON object, not empty, without its closing brace, for
--      `jobId` and `delay` to be added
-- @include enqueue
-- @include slots

local function add_iteration(queue, id, ms, now, job)
  local job_id = iteration_id(id, ms)
  local delay = math.max(ms - now, 0)
  job.opts = string.format('%s,"jobId":%s,"delay":%.0f}', job.opts, cjson.encode(job_id), delay)
  job.timestamp, job.delay, job.rjk = now, delay, id
  call('ZADD', queue.base .. 'repeat', ms, id)
  skip_id(queue)
  store_job(queue, job_id, job)
  enqueue(queue, job_id, job)
  return job_id, delay
end
