-- Putting a job id where it waits: no event, no marker. What fails here has put it nowhere.
--   place_waiting(queue, id, priority, is_lifo)  wait (or its v5 twin) or prioritized
--   place_in_front(queue, id, priority)          before all others of its class
--   place_delayed(queue, id, due_ms)             delayed
--   priority_of(value)                           what a hash or options say: 0 is none; what is below, which
--                                                Node lets pass, goes before all others that have one
--   check_waiting(queue)                         fail where there is no list or set for that
-- @include scores

local function priority_of(value)
  return whole(value, -MOST_EXACT) or 0
end

local function place_waiting(queue, id, priority, is_lifo)
  if priority ~= 0 then
    call('ZADD', queue.prioritized, priority_score(queue, priority), id)
  else
    call(is_lifo and 'RPUSH' or 'LPUSH', queue.target, id)
  end
end

local function place_in_front(queue, id, priority)
  if priority ~= 0 then
    call('ZADD', queue.prioritized, front_priority_score(priority), id)
  else
    call('RPUSH', queue.target, id)
  end
end

local function check_waiting(queue)
  call('LLEN', queue.target)
  call('ZCARD', queue.prioritized)
end

local function place_delayed(queue, id, due_ms)
  call('ZADD', queue.delayed, delayed_score(queue, due_ms), id)
end
