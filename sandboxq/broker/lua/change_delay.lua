-- Let a delayed job wait for another time, from now (protocol.md 3.20).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     now (ms), job id, delay (ms)
-- Returns  0, -1 no such job, -3 not delayed
-- Events   delayed
-- @include markers
-- @include place

local base = KEYS[1]
local now, id, delay = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local key = base .. id
local queue = open_queue(base)
if not fields_of(key, 'name')[1] then
  return -1
end
if call('ZREM', queue.delayed, id) == 0 then
  return -3
end
local due_ms = now + delay
call('HSET', key, 'delay', ARGV[3])
place_delayed(queue, id, due_ms)
try('XADD', queue.events, 'MAXLEN', '~', max_events(queue), '*',
  'event', 'delayed', 'jobId', id, 'delay', due_ms)
mark_delayed(queue)
return 0
