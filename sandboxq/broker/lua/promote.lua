-- Let up to 100 delayed jobs wait from now on (protocol.md 3.20).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     job ids
-- Returns  for each 0, -1 no such job (its id is dropped), -3 not delayed
-- Events   waiting
-- Node's bulk promotion forgets priorities and leaves the delay in the hash; this one does as its
-- single one does.
-- @include markers
-- @include place

local base = KEYS[1]
local queue = open_queue(base)
local has_waiting = false
-- Fails, before anything is written, where those that are promoted have nowhere to wait.
check_waiting(queue)

local function promote(id)
  local key = base .. id
  local job = fields_of(key, 'name', 'priority')
  local was_delayed = call('ZREM', queue.delayed, id) == 1
  if not job[1] then
    return -1
  end
  if not was_delayed then
    return -3
  end
  call('HSET', key, 'delay', '0')
  place_waiting(queue, id, priority_of(job[2]), false)
  try('XADD', queue.events, '*', 'event', 'waiting', 'jobId', id, 'prev', 'delayed')
  has_waiting = true
  return 0
end

local codes = {}
for i = 1, #ARGV do
  codes[i] = promote(ARGV[i])
end
if has_waiting then
  mark_waiting(queue)
end
return codes
