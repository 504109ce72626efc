-- Times of a scheduler that runs every so many ms (protocol.md 3.22, EVERY).
--   next_slot(prev, every, now, offset, start)  prev: its last time, nil for none; offset 0 for none;
--                                               start: the start date, nil for none.
--                                               → the next time, the offset to store
--   free_slot(base, id, ms, every)              the first time from ms on, of 32, that no job has taken;
--                                               nil: all are taken
--   iteration_id(id, ms)                        the id of a scheduler's job
--   pace(text)                                  `every` as a record has it, a millisecond or more; nil for none
-- @include numbers

-- A finished job of an earlier scheduler of this name may hold a time; not many in a row do.
local MOST_SLOTS = 32

local function iteration_id(id, ms)
  return string.format('repeat:%s:%.0f', id, ms)
end

local function pace(text)
  local every = whole(text)
  return every and every > 0 and every or nil
end

local function first_slot(every, now, offset, start)
  if start then
    return math.max(start, now)
  end
  if offset == 0 then
    return now
  end
  local slot = math.floor(now / every) * every + offset
  return slot > now and slot or slot + every
end

local function following_slot(prev, every, now, offset)
  local slot = prev + every
  if slot < now then
    -- What was missed stays missed.
    slot = math.floor(now / every) * every + offset
    if slot <= now then
      slot = slot + every
    end
  end
  return slot
end

local function next_slot(prev, every, now, offset, start)
  local slot = prev and following_slot(prev, every, now, offset)
    or first_slot(every, now, offset, start)
  if offset == 0 then
    offset = slot % every
  end
  return math.floor(slot), math.floor(offset)
end

local function free_slot(base, id, ms, every)
  for i = 0, MOST_SLOTS do
    local slot = ms + i * every
    if call('EXISTS', base .. iteration_id(id, slot)) == 0 then
      return slot
    end
  end
  return nil
end
