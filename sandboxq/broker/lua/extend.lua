-- Renew up to 100 locks (bullmq-wire.md 3.7).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     lock duration (ms), then two for each job: id, token
-- Returns  the ids whose lock is missing or another's
-- @include call

local base, lock_ms = KEYS[1], ARGV[1]

local lock_keys = {}
for at = 2, #ARGV, 2 do
  lock_keys[#lock_keys + 1] = base .. ARGV[at] .. ':lock'
end
local locks = call('MGET', unpack(lock_keys))

local renewed, lost = {}, {}
for i = 1, #lock_keys do
  local id, token = ARGV[2 * i], ARGV[2 * i + 1]
  if locks[i] == token then
    call('PEXPIRE', lock_keys[i], lock_ms)
    renewed[#renewed + 1] = id
  else
    lost[#lost + 1] = id
  end
end
if #renewed > 0 then
  call('SREM', base .. 'stalled', unpack(renewed))
end
return lost
