-- claimed(key, id): what a worker is given of a job: 16 fields, the id, and how its children ended
-- before, a list (sq:history, sq:beside) or false; nil when there is no job.
-- @include call

local function claimed(key, id)
  local job = call('HMGET', key, 'name', 'data', 'opts', 'timestamp', 'atm', 'ats', 'stc', 'defa',
    'parent', 'parentKey', 'progress', 'rjk', 'priority', 'delay', 'sq:crashes', 'sq:binary')
  if not job[1] then
    return nil
  end
  job[17] = id
  job[18] = job[15] and call('HMGET', key, 'sq:history', 'sq:beside')
  return job
end
