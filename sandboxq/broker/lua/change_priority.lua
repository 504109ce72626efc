-- Give a job another priority; one that waits moves to its new place (protocol.md 3.20).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     job id, priority, '1' to go in front of all of that priority, else '0'
-- Returns  0, -1 no such job
-- Events   none
-- @include markers
-- @include place

local base = KEYS[1]
local id, priority, is_first = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'

local key = base .. id
local queue = open_queue(base)

local function stop_waiting()
  return call('ZREM', queue.prioritized, id) == 1
    or call('LREM', queue.wait, -1, id) == 1
    -- Where v5 clients keep what waits.
    or try('LREM', base .. 'paused', -1, id) == 1
end

if not fields_of(key, 'name')[1] then
  return -1
end
check_waiting(queue)
call('HSET', key, 'priority', ARGV[2])
if stop_waiting() then
  if is_first then
    place_in_front(queue, id, priority)
  else
    place_waiting(queue, id, priority, false)
  end
  mark_waiting(queue)
end
return 0
