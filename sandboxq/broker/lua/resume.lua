-- Resume a queue (protocol.md 3.19). What v5 clients left in `paused` joins `wait`, in front.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     how many ids one call may move
-- Returns  1 while ids remain to be moved (call again), else 0
-- Events   resumed, once
-- @include markers

local base = KEYS[1]
local limit = tonumber(ARGV[1])

local paused = base .. 'paused'
call('HDEL', base .. 'meta', 'paused')
local queue = open_queue(base)
if call('EXISTS', queue.wait) == 0 then
  if call('EXISTS', paused) == 1 then
    call('RENAME', paused, queue.wait)
  end
else
  call('LLEN', queue.wait)
  local ids = call('LPOP', paused, limit)
  if ids then
    call('RPUSH', queue.wait, unpack(ids))
  end
  if call('EXISTS', paused) == 1 then
    return 1
  end
end
if call('EXISTS', queue.wait, queue.prioritized) > 0 then
  try('ZADD', queue.marker, 0, '0')
else
  mark_delayed(queue)
end
try('XADD', queue.events, '*', 'event', 'resumed')
return 0
