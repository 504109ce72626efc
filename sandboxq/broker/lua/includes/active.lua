-- Taking ended attempts out of `active`. What was claimed first stands at its tail, and mostly ends first:
-- one RPOP for a batch instead of an LREM for each job, which scans besides.
--   take_oldest(batch, n)       take so many out for now
--   is_active(batch, id)        whether a job is among these or in the list
--   leave_active(batch, id, n)  take a job out for good, with LREM's n; false when it is not there
--   put_back_oldest(batch)      those that did not leave return to where they were
-- @include batch

-- Some that were claimed later end a little earlier.
local SLACK = 0.25

local function take_oldest(batch, n)
  -- At a concurrency limit it is counted meanwhile how many are active.
  if batch.queue.concurrency then
    return
  end
  local oldest = call('RPOP', batch.queue.active, n + math.floor(n * SLACK)) or {}
  local taken = batch.taken
  for i = 1, #oldest do
    local id = oldest[i]
    taken[id] = (taken[id] or 0) + 1
  end
  batch.oldest = oldest
end

-- A queue that was misused has a job twice: its other entry stays.
local function forget_taken(taken, id)
  taken[id] = taken[id] > 1 and taken[id] - 1 or nil
end

local function is_active(batch, id)
  return batch.taken[id] or call('LPOS', batch.queue.active, id)
end

local function leave_active(batch, id, n)
  if batch.taken[id] then
    forget_taken(batch.taken, id)
    batch.left = id
    return true
  end
  if call('LREM', batch.queue.active, n, id) == 0 then
    return false
  end
  batch.left = id
  return true
end

local function put_back_oldest(batch)
  local left = {}
  local oldest, taken = batch.oldest, batch.taken
  for i = #oldest, 1, -1 do
    local id = oldest[i]
    if taken[id] then
      left[#left + 1] = id
      forget_taken(taken, id)
    end
  end
  if #left > 0 then
    call('RPUSH', batch.queue.active, unpack(left))
  end
  batch.oldest, batch.taken = {}, {}
end
