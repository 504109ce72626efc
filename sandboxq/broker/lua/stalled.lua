-- One pass of stalled detection (protocol.md 3.18): take back who was noted by the pass before
-- and has no lock, then note who is active now.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     now (ms), for how long (ms) no other pass is made, how often a job may stall, '1' where now
--          is by the server's clock: a call that was held up for seconds does nothing then
-- Returns  the ids taken back, at most 1000; more stay noted for the next pass. What was only claimed
--          ahead (see ahead.lua) counts no stall
-- Events   waiting, stalled
-- @include ahead
-- @include chunks
-- @include digits
-- @include locks
-- @include markers
-- @include server_now

local base = KEYS[1]
local now, interval_ms, max_stalled = ARGV[1], ARGV[2], tonumber(ARGV[3])
local MAX_RECOVERED = 1000
-- Redis stood still, or the network did, and nobody could renew meanwhile.
local HELD_UP = 2000

if ARGV[4] == '1' and tonumber(server_now('0')) - tonumber(now) > HELD_UP then
  return {}
end
local guard = base .. 'stalled-check'
if not call('SET', guard, now, 'PX', interval_ms, 'NX') then
  if call('PTTL', guard) ~= -1 then
    return {}
  end
  -- It would keep everybody from looking for ever.
  call('SET', guard, now, 'PX', interval_ms)
end
local queue = open_queue(base)
-- Fails where there is no list for what is taken back.
call('LLEN', queue.target)
try('XTRIM', queue.events, 'MAXLEN', '~', max_events(queue))

local function ids_without_lock(ids)
  local found, locks = {}, locks_of(base, ids)
  for i = 1, #ids do
    if not locks[i] then
      found[#found + 1] = ids[i]
    end
  end
  return found
end

local function is_of_live_scheduler(scheduler_id)
  return scheduler_id and (call('EXISTS', base .. 'repeat:' .. scheduler_id) == 1
    or type(try('ZSCORE', base .. 'repeat', scheduler_id)) == 'string')
end

local ahead = ahead_key(base)

local function recover(id)
  local key = base .. id
  local job = fields_of(key, 'name', 'rjk', 'stc')
  if call('LREM', queue.active, 1, id) == 0 then
    return false
  end
  if not job[1] then
    -- An id without a job: nobody could run it.
    return false
  end
  call('RPUSH', queue.target, id)
  -- What was claimed ahead has not stalled: nobody had begun it.
  if try('SREM', ahead, id) ~= 1 then
    local count = (whole(job[3]) or 0) + 1
    call('HSET', key, 'stc', digits(count))
    if count > max_stalled and not is_of_live_scheduler(job[2]) then
      call('HSET', key, 'defa', 'job stalled more than allowable limit')
    end
  end
  try('XADD', queue.events, '*', 'event', 'waiting', 'jobId', id, 'prev', 'active')
  try('XADD', queue.events, '*', 'event', 'stalled', 'jobId', id)
  return true
end

local stalled = base .. 'stalled'
-- What is no set names nobody.
local unlocked = ids_without_lock(try('SMEMBERS', stalled))
call('DEL', stalled)
local recovered = {}
for i = 1, math.min(#unlocked, MAX_RECOVERED) do
  if recover(unlocked[i]) then
    recovered[#recovered + 1] = unlocked[i]
  end
end
if #recovered > 0 then
  mark_waiting(queue)
else
  -- Ids without a job were dropped perhaps.
  mark_room(queue)
end
in_chunks('SADD', stalled, call('LRANGE', queue.active, 0, -1))
-- Workers of others take back what we claimed ahead, and do not know of it.
try('SINTERSTORE', ahead, ahead, stalled)
return recovered
