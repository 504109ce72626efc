-- new_batch(queue, now): what the attempts settled by one call have in common.
-- What all of them can be written with at once is collected here.
-- @include queue

local function new_batch(queue, now)
  local function outcome(name, property)
    return {
      name = name,
      property = property,
      set = queue.base .. name,
      is_open = false,
      finished = 0,
      scored = {},
      removed = {},
    }
  end
  return {
    queue = queue,
    now = now,
    completed = outcome('completed', 'returnvalue'),
    failed = outcome('failed', 'failedReason'),
    -- Taken out of active for now, see active.lua: in their order, and those still to go back.
    oldest = {},
    taken = {},
    -- The job that left active last: should what follows fail, it goes back.
    left = nil,
    unlocked_keys = {},
    unlocked_ids = {},
    has_waiting = false,
    has_promoted = false,
    has_delayed = false,
    has_children = false,
  }
end
