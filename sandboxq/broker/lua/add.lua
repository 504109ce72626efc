-- Add jobs to one queue, in order (protocol.md 3.2 to 3.5).
--
-- KEYS[1]  base, `<prefix>:<queue>:`; all keys of the queue are built from it
-- ARGV     now (ms), then for each job: name, data (JSON), opts (JSON), rest.
--          rest is '' for a job that just waits, else a JSON object with what applies of:
--          id (custom), timestamp (ms), delay (ms), priority, is_lifo, parent_key, parent (the JSON
--          text of that field), de (the option as in opts), binary (see binary.lua)
-- Returns  for each job its id (that of the job found, for a duplicate), or
--          -5 its parent does not exist, -7 its id already has another parent, -13 it would wait for itself,
--          or {-12, why} what it needs is not of its type; one that is not added changes no other
-- Events   added, then waiting or delayed; or duplicated; or deduplicated (with removed, when replacing)
-- @include markers
-- @include next_id

local base = KEYS[1]
local now = tonumber(ARGV[1])

-- What is written for a queue that no Node client has seen; they overwrite it with their own.
local VERSION = 'bullmq:6.7.0'

local queue = open_queue(base)
local limit = max_events(queue)
local events = queue.events
local results = {}

-- Plain jobs are most of all jobs: one counter step, one push and one marker for a run of them.
local function add_plain(first, count)
  local before = next_id(queue, count) - count
  local ids, added = {}, 0
  for i = 1, count do
    local id = string.format('%.0f', before + i)
    local at = first + (i - 1) * 4
    local name = ARGV[at]
    local stored = try('HSET', base .. id, 'name', name, 'data', ARGV[at + 1], 'opts', ARGV[at + 2],
      'timestamp', ARGV[1], 'delay', '0', 'priority', '0')
    if type(stored) == 'number' then
      try('XADD', events, '*', 'event', 'added', 'jobId', id, 'name', name)
      try('XADD', events, '*', 'event', 'waiting', 'jobId', id)
      added = added + 1
      ids[added] = id
      results[#results + 1] = id
    else
      results[#results + 1] = { -12, stored.err }
    end
  end
  if added > 0 then
    call('LPUSH', queue.target, unpack(ids))
  end
  try('XTRIM', events, 'MAXLEN', '~', limit)
  mark_waiting(queue)
end

-- The rest, whose parts are made when the first of it comes.
local function special_adder()
  -- @include add_job
  return function(name, data, opts, rest)
    local job = cjson.decode(rest)
    job.name, job.data, job.opts = name, data, opts
    local is_done, result = pcall(add_job, queue, job, now)
    return is_done and result or { -12, type(result) == 'table' and result.err or tostring(result) }
  end
end

local add_special

-- Fails, before anything is written, where there is no list for those that wait.
call('LLEN', queue.target)
try('HSETNX', queue.meta, 'version', VERSION)
local at = 2
while at < #ARGV do
  local count = 0
  while ARGV[at + count * 4 + 3] == '' do
    count = count + 1
  end
  if count > 0 then
    add_plain(at, count)
    at = at + count * 4
  else
    add_special = add_special or special_adder()
    results[#results + 1] = add_special(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
    at = at + 4
  end
end
return results
