-- Removing job ids from the states that hold them.
--   take_out(queue, id)    returns the state in the words of the `removed` event, `unknown` when none
--                          holds it. One that is active makes room for others
--   look_through(queue)    for thousands of jobs: its lists are looked through once instead of for each;
--                          the ids in them leave when drop_from_lists is called
--   drop_from_lists()
-- @include chunks
-- @include markers

local LISTS = { 'wait', 'paused', 'active' }
local looked_through = {}

local function look_through(queue)
  if queue.list_of then
    return
  end
  queue.list_of, queue.leaving = {}, {}
  looked_through[#looked_through + 1] = queue
  for _, name in ipairs(LISTS) do
    for _, id in ipairs(try('LRANGE', queue.base .. name, 0, -1)) do
      queue.list_of[id] = name
    end
  end
end

local function drop_from_list(queue, name)
  local key, kept = queue.base .. name, {}
  if call('TYPE', key).ok ~= 'list' then
    return
  end
  for _, id in ipairs(call('LRANGE', key, 0, -1)) do
    if queue.leaving[id] ~= name then
      kept[#kept + 1] = id
    end
  end
  call('DEL', key)
  in_chunks('RPUSH', key, kept)
end

local function drop_from_lists()
  for _, queue in ipairs(looked_through) do
    for _, name in ipairs(LISTS) do
      drop_from_list(queue, name)
    end
    mark_room(queue)
  end
end

local function take_out(queue, id)
  for _, name in ipairs({ 'completed', 'waiting-children', 'delayed', 'failed', 'prioritized' }) do
    if try('ZREM', queue.base .. name, id) == 1 then
      return name
    end
  end
  if queue.list_of and queue.list_of[id] then
    queue.leaving[id] = queue.list_of[id]
    return queue.leaving[id]
  end
  for _, name in ipairs(LISTS) do
    local count = try('LREM', queue.base .. name, 0, id)
    if type(count) == 'number' and count > 0 then
      if name == 'active' then
        mark_room(queue)
      end
      return name
    end
  end
  return 'unknown'
end
