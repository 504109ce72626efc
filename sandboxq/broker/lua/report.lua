-- Write up to 100 reports of running jobs (protocol.md 3.17), each only under its run's lock.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     the key and the entry of the mark to leave, see mark.lua; then five for each report: id, token
--          ('0' asks for no lock), kind (progress, data, log, lines, profile), payload, log lines to keep (0: all)
-- Returns  one for each: 0, -1 no such job, -2 no lock, -6 lock of another, or the text of the error that
--          kept it from being written
-- Events   progress
-- @include mark
-- @include profiles
-- @include queue

local base = KEYS[1]
local mark_key, mark_entry, FIRST = ARGV[1], ARGV[2], 3
local queue = open_queue(base)

local lock_keys = {}
for at = FIRST, #ARGV, 5 do
  lock_keys[#lock_keys + 1] = base .. ARGV[at] .. ':lock'
end
local locks = call('MGET', unpack(lock_keys))

local function rows_of(kind, payload)
  if kind == 'log' then
    return { payload }
  end
  local rows = {}
  for row in string.gmatch(payload .. '\n', '(.-)\n') do
    rows[#rows + 1] = row
  end
  return rows
end

local function write(id, key, kind, payload, keep_logs)
  if kind == 'log' or kind == 'lines' then
    local rows = rows_of(kind, payload)
    for start = 1, #rows, 1000 do
      call('RPUSH', key .. ':logs', unpack(rows, start, math.min(start + 999, #rows)))
    end
    local kept = whole(keep_logs) or 0
    if kept > 0 then
      call('LTRIM', key .. ':logs', -kept, -1)
    end
    return
  end
  if kind == 'profile' then
    keep_profile(base, id, payload)
    return
  end
  call('HSET', key, kind, payload)
  if kind == 'progress' then
    try('XADD', queue.events, 'MAXLEN', '~', max_events(queue), '*',
      'event', 'progress', 'jobId', id, 'data', payload)
  end
end

local function report(at, lock)
  local id, token = ARGV[at], ARGV[at + 1]
  local key = base .. id
  if not fields_of(key, 'name')[1] then
    return -1
  end
  if lock ~= token and token ~= '0' then
    return lock and -6 or -2
  end
  write(id, key, ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
  return 0
end

-- Keys of one job that are of another type, or a number that is none, are no harm to the next.
local codes = {}
for i = 1, #lock_keys do
  local is_done, code = pcall(report, FIRST + 5 * (i - 1), locks[i])
  codes[i] = is_done and code or type(code) == 'table' and code.err or tostring(code)
end
leave_mark(mark_key, mark_entry, '')
return codes
