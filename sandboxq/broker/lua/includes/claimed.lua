-- claimed(key, id): what a worker is given of a job: 16 fields, the id, and how its children ended
-- before, a list (sq:history, sq:beside) or false; nil when there is no job. A job that has crashed and
-- was let run again by hand, by whomever, has crashed no more.
-- @include call

local function claimed(key, id)
  local job = call('HMGET', key, 'name', 'data', 'opts', 'timestamp', 'atm', 'ats', 'stc', 'defa',
    'parent', 'parentKey', 'progress', 'rjk', 'priority', 'delay', 'sq:crashes', 'sq:binary')
  if not job[1] then
    return nil
  end
  job[17] = id
  job[18] = job[15] and call('HMGET', key, 'sq:history', 'sq:beside', 'processedOn')
  -- A retry by hand, Node's too, takes away when the job was begun; nothing else does.
  if job[18] and not job[18][3] then
    call('HDEL', key, 'sq:crashes', 'sq:history', 'sq:beside')
    job[15], job[18] = false, false
  end
  return job
end
