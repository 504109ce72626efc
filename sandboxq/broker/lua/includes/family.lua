-- What a finished child means for its parent (protocol.md 3.11.4).
--   child_completed(parent, child_key, value, now)
--   child_failed(parent, child_key, reason, now)   → whether the parent got a failed child
-- @include parents

local function child_completed(parent, child_key, value, now)
  if call('SREM', parent.key .. ':dependencies', child_key) == 1 then
    call('HSET', parent.key .. ':processed', child_key, value)
    release_parent_if_empty(parent, now)
  end
end

-- The parent fails when it is claimed next: at once where it can be claimed at once.
local function fail_parent(parent, child_key, now)
  call('ZADD', parent.key .. ':unsuccessful', now, child_key)
  if call('EXISTS', parent.key) == 0 then
    return
  end
  local queue = open_queue(parent.base)
  local reason = 'child ' .. child_key .. ' failed'
  if call('ZSCORE', queue.waiting_children, parent.id) then
    call('HSET', parent.key, 'defa', reason)
    release_parent(parent, now, queue.waiting_children)
  elseif call('ZSCORE', queue.delayed, parent.id) then
    call('HSET', parent.key, 'delay', '0', 'defa', reason)
    release_parent(parent, now, queue.delayed)
  elseif not call('ZSCORE', parent.base .. 'failed', parent.id) then
    call('HSET', parent.key, 'defa', reason)
  end
end

local function child_failed(parent, child_key, reason, now)
  local flags = parent.flags
  local is_ignored = flags.idof == true
  if not (flags.fpof == true or flags.cpof == true or is_ignored or flags.rdof == true) then
    return false
  end
  if call('SREM', parent.key .. ':dependencies', child_key) == 0 then
    return false
  end
  if flags.fpof == true then
    fail_parent(parent, child_key, now)
    return true
  end
  if flags.cpof == true then
    call('HSET', parent.key .. ':failed', child_key, reason)
    release_parent_if_waiting(parent, now)
    return false
  end
  if is_ignored then
    call('HSET', parent.key .. ':failed', child_key, reason)
  end
  release_parent_if_empty(parent, now)
  return false
end
