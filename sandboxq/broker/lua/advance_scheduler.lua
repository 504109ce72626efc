-- Queue the next jobs of schedulers whose jobs were just claimed (protocol.md 3.22). A scheduler whose
-- next job is not the claimed one is left alone, so a job that is claimed again has no second successor.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     now (ms), then for each claimed job: its id, scheduler id, next time (ms; '' with `every`),
--          `every` by its opts (ms or ''), opts of the next job (see add_iteration), priority, '1' for
--          lifo else '0', deduplication id or ''
-- Returns  for each the id of the job made; '' none was to be made; -10 another job has that time, so
--          that a later one is to be asked for
-- Events   added, then delayed or waiting; duplicated
-- What is wrong with one is told as an error when the others are done.
-- @include add_iteration
-- @include digits

local base = KEYS[1]
local now = tonumber(ARGV[1])

local queue = open_queue(base)
check_waiting(queue)
call('ZCARD', queue.delayed)

-- What a v5 client repeats has neither data nor counter in its record, and loses them in Node's v6.
local function template_data(record_key, record, claimed_id)
  if record[2] then
    return record[2]
  end
  local data = not record[5] and call('HGET', base .. claimed_id, 'data') or '{}'
  if data ~= '{}' then
    call('HSET', record_key, 'data', data)
  end
  return data
end

-- Of these the jobs have another name than `repeat`. BullMQ 6 ends them too.
local NOT_KEPT = 'ERR a repeatable job of an older BullMQ is not repeated: make a scheduler instead'

local function advance(claimed_id, id, next_ms, every_of_job, job)
  local own = 'repeat:' .. id .. ':'
  if string.sub(claimed_id, 1, #own) ~= own then
    error({ err = NOT_KEPT })
  end
  local prev = tonumber(call('ZSCORE', base .. 'repeat', id))
  if not prev or claimed_id ~= iteration_id(id, prev) then
    return ''
  end
  local record_key = base .. 'repeat:' .. id
  local record = call('HMGET', record_key, 'name', 'data', 'every', 'offset', 'ic')
  local every = pace(record[3] or every_of_job)
  if every then
    next_ms = next_slot(prev, every, now, whole(record[4]) or 0)
  end
  if not next_ms then
    return ''
  end
  if call('EXISTS', base .. iteration_id(id, next_ms)) == 1 then
    try('XADD', queue.events, 'MAXLEN', '~', max_events(queue), '*',
      'event', 'duplicated', 'jobId', iteration_id(id, next_ms))
    next_ms = every and free_slot(base, id, next_ms, every)
    if not next_ms then
      return every and '' or -10
    end
  end
  job.name = record[1] or call('HGET', base .. claimed_id, 'name')
  job.data = template_data(record_key, record, claimed_id)
  call('HSET', record_key, 'ic', digits((whole(record[5]) or 0) + 1))
  return (add_iteration(queue, id, next_ms, now, job))
end

local results, problem = {}, nil
for at = 2, #ARGV, 8 do
  local job = {
    opts = ARGV[at + 4], priority = tonumber(ARGV[at + 5]), is_lifo = ARGV[at + 6] == '1',
    deid = ARGV[at + 7] ~= '' and ARGV[at + 7],
  }
  local is_done, result =
    pcall(advance, ARGV[at], ARGV[at + 1], whole(ARGV[at + 2]), ARGV[at + 3], job)
  problem = problem or (not is_done and result) or nil
  results[#results + 1] = is_done and result or ''
end
if problem then
  return type(problem) == 'table' and problem or redis.error_reply(tostring(problem))
end
return results
