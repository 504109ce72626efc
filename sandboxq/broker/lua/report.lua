-- Write up to 100 reports of running jobs (bullmq-wire.md 3.17), each only under its run's lock.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     five for each report: id, token ('0' asks for no lock), kind (progress, data, log), payload,
--          log lines to keep (0: all)
-- Returns  one integer for each: 0, -1 no such job, -2 no lock, -6 lock of another
-- Events   progress
-- @include queue

local base = KEYS[1]
local queue = open_queue(base)

local lock_keys = {}
for at = 1, #ARGV, 5 do
  lock_keys[#lock_keys + 1] = base .. ARGV[at] .. ':lock'
end
local locks = call('MGET', unpack(lock_keys))

local function write(id, key, kind, payload, keep_logs)
  if kind == 'log' then
    call('RPUSH', key .. ':logs', payload)
    if keep_logs ~= '0' then
      call('LTRIM', key .. ':logs', -tonumber(keep_logs), -1)
    end
    return
  end
  call('HSET', key, kind, payload)
  if kind == 'progress' then
    call('XADD', queue.events, 'MAXLEN', '~', max_events(queue), '*',
      'event', 'progress', 'jobId', id, 'data', payload)
  end
end

local codes = {}
for i = 1, #lock_keys do
  local at = 5 * i - 4
  local id, token = ARGV[at], ARGV[at + 1]
  local key = base .. id
  if call('HEXISTS', key, 'name') == 0 then
    codes[i] = -1
  elseif locks[i] ~= token and token ~= '0' then
    codes[i] = locks[i] and -6 or -2
  else
    write(id, key, ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
    codes[i] = 0
  end
end
return codes
