-- Make a scheduler, or change it, and queue its next job (protocol.md 3.22).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     now (ms), scheduler id, next time (ms; '' with `every`), job name, template data (JSON),
--          template opts (JSON, '' for none), job opts (see add_iteration), priority, '1' for lifo else
--          '0', then the record as name, value, …: what applies of tz pattern limit startDate endDate
--          every offset
-- Returns  { job id, delay (ms) }, or an error, with nothing written:
--          -10 another job has the next time, -11 other jobs have the next times of `every`
-- Events   added, then delayed or waiting
-- The next job of the scheduler as it was is removed, without an event, unless it is being processed.
-- @include add_iteration
-- @include deduplication
-- @include job_keys
-- @include unlink_hard

local base = KEYS[1]
local now, id, next_ms = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local job = {
  name = ARGV[4], data = ARGV[5], opts = ARGV[7],
  priority = tonumber(ARGV[8]), is_lifo = ARGV[9] == '1',
}
local template_opts = ARGV[6]
local record = {}
for i = 10, #ARGV, 2 do
  record[ARGV[i]] = ARGV[i + 1]
end

local queue = open_queue(base)
check_waiting(queue)
call('ZCARD', queue.delayed)
local record_key = base .. 'repeat:' .. id
local stored = call('HMGET', record_key, 'every', 'offset', 'ic')
local prev = tonumber(call('ZSCORE', base .. 'repeat', id))
local prev_id = prev and iteration_id(id, prev)
local every = tonumber(record.every)

-- The list or set from which the scheduler's job can be taken, and the command that does it.
local function place_of_previous()
  if not prev_id or call('EXISTS', base .. prev_id) == 0 then
    return nil
  end
  for _, set in ipairs({ queue.delayed, queue.prioritized }) do
    if call('ZSCORE', set, prev_id) then
      return function() call('ZREM', set, prev_id) end
    end
  end
  for _, list in ipairs({ queue.wait, base .. 'paused' }) do
    if call('LPOS', list, prev_id) then
      return function() call('LREM', list, 1, prev_id) end
    end
  end
end

local function remove_previous(take)
  local key = base .. prev_id
  local fields = fields_of(key, 'parentKey', 'parent', 'deid')
  take()
  if fields[1] then
    unlink_hard(key, parent_of(fields[1], fields[2]), queue)
  end
  if fields[3] then
    forget_deduplication(queue, prev_id, fields[3])
  end
  delete_jobs({ key })
end

local function store_record()
  local fields = { 'name', job.name, 'ic', stored[3] or '1' }
  local function also(name, value)
    if value then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  for name, value in pairs(record) do
    also(name, value)
  end
  also('opts', template_opts ~= '' and template_opts)
  also('data', job.data ~= '{}' and job.data)
  call('DEL', record_key)
  call('HSET', record_key, unpack(fields))
end

local take_previous = place_of_previous()
local offset = 0
local is_same_pace = prev and whole(stored[1]) == every
if every then
  next_ms, offset = next_slot(is_same_pace and prev or nil, every, now,
    tonumber(record.offset) or 0, tonumber(record.startDate))
  if take_previous and (is_same_pace or next_ms == prev) then
    next_ms = prev
  else
    next_ms = free_slot(base, id, next_ms, every)
  end
  if not next_ms then
    return -11
  end
elseif call('EXISTS', base .. iteration_id(id, next_ms)) == 1
  and not (take_previous and next_ms == prev) then
  return -10
end

if take_previous then
  remove_previous(take_previous)
  record.offset = record.offset or stored[2]
else
  record.offset = offset
end
store_record()
return { add_iteration(queue, id, next_ms, now, job) }
