-- take_out(queue, id): remove a job id from the state that holds it. Returns the state in the words of
-- the `removed` event, `unknown` when no state holds it. One that is active makes room for others.
-- @include markers

local function take_out(queue, id)
  for _, name in ipairs({ 'completed', 'waiting-children', 'delayed', 'failed', 'prioritized' }) do
    if call('ZREM', queue.base .. name, id) == 1 then
      return name
    end
  end
  for _, name in ipairs({ 'wait', 'paused', 'active' }) do
    if call('LREM', queue.base .. name, 0, id) > 0 then
      if name == 'active' then
        mark_room(queue)
      end
      return name
    end
  end
  return 'unknown'
end
