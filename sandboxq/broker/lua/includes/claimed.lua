-- claimed(key, id): what a worker is given of a job: 16 fields, the id, and how the job crashed before
-- (sq:history), when it did; nil when there is no job.
-- @include call

local function claimed(key, id)
  local job = call('HMGET', key, 'name', 'data', 'opts', 'timestamp', 'atm', 'ats', 'stc', 'defa',
    'parent', 'parentKey', 'progress', 'rjk', 'priority', 'delay', 'sq:crashes', 'sq:binary')
  if not job[1] then
    return nil
  end
  job[17] = id
  if job[15] then
    job[18] = call('HGET', key, 'sq:history')
  end
  return job
end
