-- Pause a queue (protocol.md 3.19, and 9.2 for queues shared with v5 clients).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     how many ids one call may move
-- Returns  1 while ids remain to be moved (call again), else 0
-- Events   paused, once
-- A v5 client that resumes throws away what is in `wait`; where one may do so, all that waits is
-- moved into `paused`, where every version finds it.
-- @include queue

local base = KEYS[1]
local limit = tonumber(ARGV[1])

local meta, marker = base .. 'meta', base .. 'marker'
call('HSET', meta, 'paused', '1')
call('DEL', marker)
local queue = open_queue(base)
if queue.target ~= queue.wait then
  call('LLEN', queue.target)
  local ids = call('RPOP', queue.wait, limit)
  if ids then
    call('LPUSH', queue.target, unpack(ids))
  end
  if call('EXISTS', queue.wait) == 1 then
    return 1
  end
end
try('XADD', queue.events, '*', 'event', 'paused')
return 0
