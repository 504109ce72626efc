-- Set or remove limits of a whole queue (protocol.md 1.3), and wake a worker that may claim now.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     fields of meta and their values; '' removes the field
-- Returns  how many fields were added or removed
-- Events   none
-- @include markers

local base = KEYS[1]
local changed = 0

for at = 1, #ARGV, 2 do
  local field, value = ARGV[at], ARGV[at + 1]
  if value == '' then
    changed = changed + call('HDEL', base .. 'meta', field)
  else
    changed = changed + call('HSET', base .. 'meta', field, value)
  end
end

-- Node lets workers that a limit held back sleep on (up to five seconds).
local queue = open_queue(base)
if call('EXISTS', queue.wait, queue.prioritized) > 0 then
  mark_waiting(queue)
end
return changed
