-- claimed(key, id): what a worker is given of a job: 16 fields, the id, and how its children ended
-- before (sq:history, sq:beside), when they did; nil when there is no job.
-- @include call

local function claimed(key, id)
  local job = call('HMGET', key, 'name', 'data', 'opts', 'timestamp', 'atm', 'ats', 'stc', 'defa',
    'parent', 'parentKey', 'progress', 'rjk', 'priority', 'delay', 'sq:crashes', 'sq:binary')
  if not job[1] then
    return nil
  end
  job[17] = id
  if job[15] then
    local ends = call('HMGET', key, 'sq:history', 'sq:beside')
    job[18], job[19] = ends[1], ends[2]
  end
  return job
end
