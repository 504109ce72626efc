-- Scores of sorted sets (protocol.md 1.2). Pass them on as numbers: `..` would round them.
--   delayed_score(queue, due_ms)          behind all that is due in the same millisecond (DSCORE)
--   priority_score(queue, priority)       behind all of the same priority (PSCORE)
--   front_priority_score(priority)        in front of all of the same priority
-- @include queue

local function delayed_score(queue, due_ms)
  local lowest = due_ms * 4096
  local highest = lowest + 4095
  local last =
    call('ZREVRANGEBYSCORE', queue.delayed, highest, lowest, 'WITHSCORES', 'LIMIT', 0, 1)
  if not last[2] then
    return lowest
  end
  return math.min(tonumber(last[2]) + 1, highest)
end

local function front_priority_score(priority)
  return priority * 4294967296
end

local function priority_score(queue, priority)
  local count = try('INCR', queue.pc)
  if type(count) ~= 'number' then
    -- No counter, or at its end.
    call('DEL', queue.pc)
    count = call('INCR', queue.pc)
  end
  return priority * 4294967296 + count % 4294967296
end
