-- Remove a paused queue and its jobs, but not those in waiting-children (protocol.md 3.21).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     how many jobs one call may remove, '1' to remove active jobs too, else '0'
-- Returns  1 while jobs remain (call again), 0 done, -1 the queue is not paused,
--          -2 jobs are active
-- Events   none survive
-- @include ahead
-- @include unlink_hard
-- @include deduplication

local base = KEYS[1]
local limit, with_active = tonumber(ARGV[1]), ARGV[2] == '1'

local queue = open_queue(base)

local function remove_jobs(ids)
  local keys = {}
  for i = 1, #ids do
    local id = ids[i]
    local key = base .. id
    local stored = fields_of(key, 'parentKey', 'parent', 'deid')
    if stored[1] then
      unlink_hard(key, parent_of(stored[1], stored[2]), queue)
    end
    if stored[3] then
      forget_deduplication(queue, id, stored[3])
    end
    keys[i] = key
  end
  delete_jobs(keys)
  limit = limit - #ids
end

local function empty_list(name)
  local ids = limit > 0 and try('RPOP', base .. name, limit) or {}
  remove_jobs(ids)
  return ids
end

local function empty_set(name)
  local ids = {}
  if limit > 0 then
    local scored = try('ZPOPMIN', base .. name, limit)
    for i = 1, #scored, 2 do
      ids[#ids + 1] = scored[i]
    end
    remove_jobs(ids)
  end
end

local function empty_schedulers()
  if limit > 0 then
    local scored = try('ZPOPMIN', base .. 'repeat', limit)
    for i = 1, #scored, 2 do
      call('DEL', base .. 'repeat:' .. scored[i])
    end
    limit = limit - #scored / 2
  end
end

if not queue.is_paused then
  return -1
end
if not with_active and call('EXISTS', queue.active) == 1 then
  return -2
end
for _, id in ipairs(empty_list('active')) do
  call('DEL', base .. id .. ':lock')
end
empty_schedulers()
for _, name in ipairs({ 'wait', 'paused' }) do
  empty_list(name)
end
for _, name in ipairs({ 'delayed', 'completed', 'prioritized', 'failed' }) do
  empty_set(name)
end
if limit <= 0 then
  return 1
end

-- What is left of these is no list and no set.
local keys = {}
for i, name in ipairs({
  'active', 'wait', 'paused', 'delayed', 'completed', 'prioritized', 'failed', 'repeat', 'events', 'delay', 'stalled-check', 'stalled', 'pc', 'marker', 'meta',
  'metrics:completed', 'metrics:completed:data', 'metrics:failed', 'metrics:failed:data',
}) do
  keys[i] = base .. name
end
-- Jobs that still wait for children keep their ids: nobody may be given one of those again.
if call('EXISTS', queue.waiting_children) == 0 then
  keys[#keys + 1] = base .. 'id'
end
keys[#keys + 1] = ahead_key(base)
call('DEL', unpack(keys))
return 0
