-- Add trees of jobs to any number of queues, all of it or nothing (protocol.md 3.23).
--
-- KEYS     base of each queue, `<prefix>:<queue>:`; last, when a job that runs adds them, its lock
-- ARGV     now (ms), the token of that lock or '', then for each job, parents before their children: number of its base in KEYS,
--          id, '1' when it is the parent of others of this call else '0', name, data (JSON),
--          opts (JSON), rest ('' or the JSON that add.lua takes)
-- Returns  the id of each job; or, when nothing was added, {code, number of the job}:
--          -5 its parent does not exist, -7 its id already has another parent, -13 it would wait for itself,
--          -2 there is no such lock, -6 somebody else holds it (number 0).
--          Fails, with nothing added, where a key is not of its type
-- Events   as of add.lua; waiting-children for a parent; waiting or delayed for a parent whose
--          children had all completed before
-- @include add_job

local now = tonumber(ARGV[1])
local token = ARGV[2]
if token ~= '' then
  local holder = call('GET', KEYS[#KEYS])
  if holder ~= token then
    return { holder and -6 or -2, 0 }
  end
end

-- What is written for a queue that no Node client has seen; they overwrite it with their own.
local VERSION = 'bullmq:6.7.0'

local function job_at(at)
  local job = ARGV[at + 6] == '' and {} or cjson.decode(ARGV[at + 6])
  job.base = KEYS[tonumber(ARGV[at])]
  job.id, job.has_children = ARGV[at + 1], ARGV[at + 2] == '1'
  job.name, job.data, job.opts = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  job.key = job.base .. job.id
  job.is_in_flow = true
  return job
end

-- Looked at before anything is written: a script that stops half-way undoes nothing.
local coming, parent_keys = {}, {}

local function is_there(key)
  return coming[key] or call('EXISTS', key) == 1
end

-- Fails where one of the keys that the job needs is not of its type.
local function check_keys(job)
  job.delay, job.priority = job.delay or 0, job.priority or 0
  local queue = open_queue(job.base)
  check_places(queue, job)
  if call('HLEN', job.key) > 0 and job.parent_key then
    -- It joins its parent, perhaps with its value.
    call('ZCARD', job.base .. 'completed')
    call('HLEN', job.parent_key .. ':processed')
  end
  -- Whoever waits goes from here.
  call('ZCARD', queue.waiting_children)
  call('LLEN', queue.target)
  if job.de then
    call('STRLEN', job.base .. 'de:' .. job.de.id)
    call('ZCARD', queue.delayed)
    call('LLEN', queue.active)
  end
end

-- A ring goes through one whose parent is not of its own tree, be it one that was there already.
local function is_in_ring(job)
  local key = job.parent_key or fields_of(job.key, 'parentKey')[1]
  for _ = 1, MOST_LEVELS do
    if not key or key == job.key then
      break
    end
    key = parent_keys[key] or fields_of(key, 'parentKey')[1]
  end
  return key == job.key
end

local function refusal(job)
  if not (job.parent_key and coming[job.parent_key]) and is_in_ring(job) then
    return -13
  end
  if not job.parent_key then
    return nil
  end
  if not is_there(job.parent_key) then
    return -5
  end
  local old = call('HGET', job.key, 'parentKey')
  if old and old ~= job.parent_key and is_there(old) then
    return -7
  end
  return nil
end

local jobs, parents = {}, {}
for at = 3, #ARGV, 7 do
  local job = job_at(at)
  jobs[#jobs + 1] = job
  parent_keys[job.key] = job.parent_key
end
for i, job in ipairs(jobs) do
  check_keys(job)
  local code = refusal(job)
  if code then
    return { code, i }
  end
  coming[job.key] = true
  if job.parent_key and not parents[job.parent_key] then
    parents[job.parent_key] = true
    parents[#parents + 1] = job
  end
end

local ids = {}
for i, job in ipairs(jobs) do
  local queue = open_queue(job.base)
  try('HSETNX', queue.meta, 'version', VERSION)
  max_events(queue)
  ids[i] = add_job(queue, job, now)
end
for _, child in ipairs(parents) do
  pcall(release_parent_if_empty, parent_of(child.parent_key, child.parent), now)
end
return ids
