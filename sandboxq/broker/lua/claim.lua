-- Claim up to n jobs of one queue (protocol.md 3.6): wait first, then prioritized.
--
-- KEYS[1]  base, `<prefix>:<queue>:`; all keys of the queue are built from it
-- ARGV     now (ms), n (1 to 200), token, lock duration (ms), worker name or '',
--          limiter max or '', limiter duration (ms) or '', how many bytes of names, data and options
--          the jobs may have together (the first may have more), how many of them begin at once (see
--          ahead.lua), and where now is '': how many ms the worker's clock is ahead of the server's, whose
--          time counts then; such a claim comes with a marker
-- Returns  { jobs, rate limit ms, next delayed ms, is blocked (0 or 1), now }; jobs are rows: of one job what
--          claimed.lua reads, with attempts started as after this claim; or of fresh ones that have name,
--          opts, priority and delay in common 0, these four, and of each id, data and timestamp
-- Events   active; waiting for what became due
-- Ids without a job are taken out of the queue and not returned; a key of another type is no job.
-- @include ahead
-- @include claimed
-- @include digits
-- @include promote_due
-- @include rate_limit
-- @include server_now

local base = KEYS[1]
local now, n, token, lock_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local worker_name, limiter_max, limiter_ms = ARGV[5], finite(ARGV[6]), finite(ARGV[7])
local bytes_left, at_once = tonumber(ARGV[8]), tonumber(ARGV[9])
if now == '' then
  now = server_now(ARGV[10])
end

local queue = open_queue(base)
local active, events = queue.active, queue.events
-- The queue's own maximum goes before the worker's, the worker's duration before the queue's.
local max, duration = queue.max or limiter_max, limiter_ms or queue.duration

local function next_delayed_ms()
  local first = try('ZRANGE', queue.delayed, 0, 0, 'WITHSCORES')
  return whole((finite(first[2], 0, math.huge) or 0) / 4096)
end

local scores = {}

local function pop(count)
  local ids = call('RPOP', queue.wait, count) or {}
  local missing = count - #ids
  if missing > 0 then
    local scored = try('ZPOPMIN', queue.prioritized, missing)
    if #scored < 2 * missing then
      call('DEL', queue.pc)
    end
    for i = 1, #scored, 2 do
      ids[#ids + 1] = scored[i]
      scores[#ids] = scored[i + 1]
    end
  end
  return ids
end

-- Puts back what was popped and not started, from one place on. They are at the head of active, each
-- where it is looked for first; how many are before it is unknown where an id was there twice.
local function put_back(ids, first)
  for i = #ids, first, -1 do
    call('LREM', active, 1, ids[i])
    if scores[i] then
      call('ZADD', queue.prioritized, scores[i], ids[i])
    else
      call('RPUSH', queue.wait, ids[i])
    end
  end
end

local function size_of(job)
  local size = #job[2] + #(job[3] or '') + #(job[4] or '')
  if job[8] ~= nil then
    size = size + #(job[14] or '') + #(job[18] or '')
  end
  return size
end

-- Rows, ids of the jobs in them, and how many of these use up the limit.
local rows, taken, total, counted = {}, {}, 0, 0
local run, last_name, last_opts, last_priority, last_delay

local function add_fresh(id, stored)
  local name, opts, delay, priority = stored[2], stored[6], stored[10], stored[12]
  if name ~= last_name or opts ~= last_opts or delay ~= last_delay or priority ~= last_priority then
    last_name, last_opts, last_delay, last_priority = name, opts, delay, priority
    run = { 0, name, opts, priority, delay }
    rows[#rows + 1] = run
  end
  local last = #run
  run[last + 1], run[last + 2], run[last + 3] = id, stored[4], stored[8]
  counted = counted + 1
end

local function add_other(job)
  rows[#rows + 1] = job
  last_name = nil
  -- A job that is only claimed to be failed does not use up the limit.
  if not job[11] then
    counted = counted + 1
  end
end

-- Takes the lock of one job and adds it to the rows; false for an id without a job, or where it is too
-- large to go with the others.
local function start(id)
  local key = base .. id
  local job, fresh = claimed(key, id)
  if not job and not fresh then
    return false
  end
  bytes_left = bytes_left - (fresh and #fresh[2] + #fresh[4] + #fresh[6] or size_of(job))
  if bytes_left < 0 and total > 0 then
    return false
  end
  local started = '1'
  if job and job[9] ~= nil then
    started = digits((whole(job[9]) or 0) + 1)
    job[9] = started
  end
  if worker_name == '' then
    call('HSET', key, 'processedOn', now, 'ats', started)
  else
    call('HSET', key, 'processedOn', now, 'ats', started, 'pb', worker_name)
  end
  if token ~= '0' then
    call('SET', key .. ':lock', token, 'PX', lock_ms)
  end
  try('XADD', events, '*', 'event', 'active', 'jobId', id, 'prev', 'waiting')
  total = total + 1
  taken[total] = id
  if fresh then
    add_fresh(id, fresh)
  else
    add_other(job)
  end
  return true
end

promote_due(queue, tonumber(now))
local wait_ms, left = rate_window(queue, max)
if wait_ms > 0 then
  return { {}, wait_ms, 0, 0, now }
end
if is_blocked(queue) then
  -- Node tells nothing here; its workers remember what the marker said, ours ask as it comes.
  return { {}, 0, next_delayed_ms(), 1, now }
end
if queue.concurrency then
  left = math.min(left, queue.concurrency - call('LLEN', active))
end
n = math.min(n, math.ceil(left))

-- Fails where there is no list for what is popped.
call('LLEN', active)
local ids = pop(n)
if #ids == 0 then
  return { {}, 0, next_delayed_ms(), 0, now }
end
call('LPUSH', active, unpack(ids))

for i = 1, #ids do
  local id = ids[i]
  -- Ids that begin with `0:` are markers of BullMQ before 5.
  local is_started = string.sub(id, 1, 2) ~= '0:' and start(id)
  if bytes_left < 0 and not is_started then
    put_back(ids, i)
    break
  end
  if not is_started then
    call('LREM', active, 1, id)
  end
end
if total > at_once then
  try('SADD', ahead_key(base), unpack(taken, at_once + 1))
end
count_claims(queue, max, duration, counted)
-- So that another idle worker tries too, and this one again. Who came with a marker and has taken all that
-- there was would only wake itself in vain.
if ARGV[1] ~= '' or #ids == n or bytes_left < 0 then
  try('ZADD', queue.marker, 0, '0')
end

return { rows, 0, total < n and next_delayed_ms() or 0, 0, now }
