-- unlink_hard(child_key, parent, queue): forget a child that goes with many others (bullmq-wire.md 3.21).
-- A parent in the same queue whose last pending child it was goes too; one in another queue is woken.
-- No events.
-- @include parents
-- @include job_keys

local function unlink_hard(child_key, parent, queue)
  local dependencies = parent.key .. ':dependencies'
  if call('SREM', dependencies, child_key) == 0 or call('EXISTS', dependencies) == 1 then
    return
  end
  local home = open_queue(parent.base)
  if call('ZREM', home.waiting_children, parent.id) == 0 then
    return
  end
  if home.base ~= queue.base then
    call('RPUSH', home.target, parent.id)
    mark_waiting(home)
    return
  end
  local stored = call('HMGET', parent.key, 'parentKey', 'parent')
  if stored[1] then
    unlink_hard(parent.key, parent_of(stored[1], stored[2]), queue)
  end
  delete_jobs({ parent.key })
end
