-- next_id(queue, count): take so many ids from the queue's counter; returns the last.
-- @include queue

-- Beyond, ids would be rounded: two jobs would have one.
local LAST_ID = 9007199254740991

local function next_id(queue, count)
  local last = call('INCRBY', queue.base .. 'id', count)
  if last >= LAST_ID then
    error({ err = 'ERR the counter of ids of the queue, ' .. queue.base .. 'id, is at its end' })
  end
  return last
end
