-- Let up to 100 finished jobs wait again (protocol.md 3.20).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     completed or failed, '1' to forget how often they were tried, else '0', the same for how
--          often they were started, then job ids
-- Returns  for each 0, -1 no such job (its id is dropped), -3 not in that state
-- Events   waiting
-- Node's bulk retry forgets priority and lifo, and before 6.3 the parent too; this one does as its
-- single one does.
-- @include failure
-- @include markers
-- @include place

local base = KEYS[1]
local state, forgets_made, forgets_started = ARGV[1], ARGV[2] == '1', ARGV[3] == '1'

local queue = open_queue(base)
local set = base .. state
local limit = max_events(queue)
local has_waiting = false
-- Fails, before anything is written, where those that are tried again have nowhere to wait.
check_waiting(queue)

local fields = { 'finishedOn', 'processedOn', state == 'failed' and 'failedReason' or 'returnvalue' }
if state == 'completed' then
  fields[#fields + 1] = 'sq:result'
end
if forgets_made then
  fields[#fields + 1] = 'atm'
  fields[#fields + 1] = 'attemptsMade'
end
if forgets_started then
  fields[#fields + 1] = 'ats'
end

local function is_lifo(opts)
  if not string.find(opts or '', '"lifo"', 1, true) then
    return false
  end
  local is_json, decoded = pcall(cjson.decode, opts)
  return is_json and type(decoded) == 'table' and decoded.lifo == true
end

-- A parent that has left waiting-children already stays where it is.
local function make_pending(child_key, parent_key)
  if call('EXISTS', parent_key) == 0 then
    return
  end
  local was_noted
  if state == 'failed' then
    was_noted = call('ZREM', parent_key .. ':unsuccessful', child_key) == 1
      or call('HDEL', parent_key .. ':failed', child_key) == 1
  else
    was_noted = call('HDEL', parent_key .. ':processed', child_key) == 1
  end
  if was_noted then
    call('SADD', parent_key .. ':dependencies', child_key)
  end
end

local function reprocess(id)
  local key = base .. id
  local job = fields_of(key, 'name', 'priority', 'opts', 'parentKey', 'sq:cause')
  local was_there = call('ZREM', set, id) == 1
  if not job[1] then
    return -1
  end
  if not was_there then
    return -3
  end
  call('HDEL', key, unpack(fields))
  if job[5] then
    forget_facts(key)
  end
  place_waiting(queue, id, priority_of(job[2]), is_lifo(job[3]))
  if job[4] then
    pcall(make_pending, key, job[4])
  end
  try('XADD', queue.events, 'MAXLEN', '~', limit, '*',
    'event', 'waiting', 'jobId', id, 'prev', state)
  has_waiting = true
  return 0
end

local codes = {}
for at = 4, #ARGV do
  codes[at - 3] = reprocess(ARGV[at])
end
if has_waiting then
  mark_waiting(queue)
end
return codes
