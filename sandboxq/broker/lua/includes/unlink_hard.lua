-- unlink_hard(child_key, parent, queue): forget a child that goes with many others (protocol.md 3.21).
-- A parent in the same queue whose last pending child it was goes too; one in another queue is woken.
-- No events.
-- @include parents
-- @include job_keys

-- Returns the parent when it goes too, and may itself have one.
local function unlink_one(child_key, parent, queue)
  local dependencies = parent.key .. ':dependencies'
  if call('SREM', dependencies, child_key) == 0 or call('EXISTS', dependencies) == 1 then
    return nil
  end
  local home = open_queue(parent.base)
  if not call('ZSCORE', home.waiting_children, parent.id) then
    return nil
  end
  if home.base ~= queue.base then
    call('RPUSH', home.target, parent.id)
    call('ZREM', home.waiting_children, parent.id)
    mark_waiting(home)
    return nil
  end
  call('ZREM', home.waiting_children, parent.id)
  return parent
end

local function unlink_chain(child_key, parent, queue)
  while parent do
    local gone = unlink_one(child_key, parent, queue)
    local stored = gone and fields_of(gone.key, 'parentKey', 'parent') or {}
    if gone then
      delete_jobs({ gone.key })
      child_key = gone.key
    end
    parent = stored[1] and parent_of(stored[1], stored[2])
  end
end

-- What a parent's keys hold keeps no child from going.
local function unlink_hard(child_key, parent, queue)
  pcall(unlink_chain, child_key, parent, queue)
end
