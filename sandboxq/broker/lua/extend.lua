-- Renew up to 100 locks (protocol.md 3.7).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     lock duration (ms), '1' to take a lock again that has run out while nobody took the job
--          from active (Redis or this process was frozen), else '0'; then three for each job: id, token,
--          attempts started as its claim has told, '' when not known: a later claim's lock is not taken
-- Returns  the ids whose lock is missing or another's
-- @include fields

local base, lock_ms, retakes = KEYS[1], ARGV[1], ARGV[2] == '1'

local lock_keys = {}
for at = 3, #ARGV, 3 do
  lock_keys[#lock_keys + 1] = base .. ARGV[at] .. ':lock'
end
local locks = call('MGET', unpack(lock_keys))

local function is_as_claimed(id, started)
  return type(try('LPOS', base .. 'active', id)) == 'number'
    and (started == '' or fields_of(base .. id, 'ats')[1] == started)
end

local renewed, lost = {}, {}
for i = 1, #lock_keys do
  local id, token, started = ARGV[3 * i], ARGV[3 * i + 1], ARGV[3 * i + 2]
  if locks[i] == token then
    call('PEXPIRE', lock_keys[i], lock_ms)
    renewed[#renewed + 1] = id
  elseif not locks[i] and retakes and is_as_claimed(id, started) then
    call('SET', lock_keys[i], token, 'PX', lock_ms)
    renewed[#renewed + 1] = id
  else
    lost[#lost + 1] = id
  end
end
if #renewed > 0 then
  try('SREM', base .. 'stalled', unpack(renewed))
end
return lost
