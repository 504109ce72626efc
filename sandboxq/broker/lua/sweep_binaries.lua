-- Remove arrays and bytes whose job is gone, whoever removed it, and renew the others' lives.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     cursor, '0' to begin; how many to look at
-- Returns  { next cursor, '0' at the end; how many were removed }
-- Events   none
-- One that is written for the result of a running job is named by no field yet: its job has a lock, or is
-- active still, where Redis was away for longer than the lock.
-- @include binary

local base = KEYS[1]
local cursor, count = ARGV[1], ARGV[2]

local function is_wanted(key, id)
  for _, reference in pairs(fields_of(base .. id, 'sq:binary', 'sq:result')) do
    if reference and key_of(reference) == key then
      return true
    end
  end
  return call('EXISTS', base .. id .. ':lock') == 1 or call('LPOS', base .. 'active', id)
end

local removed = 0
local index = index_of(base)
local page = call('HSCAN', index, cursor, 'COUNT', count)
for i = 1, #page[2], 2 do
  local key, id = page[2][i], page[2][i + 1]
  if not is_wanted(key, id) then
    removed = removed + call('UNLINK', key)
    call('HDEL', index, key)
  else
    local left = call('PTTL', key)
    if left >= 0 and left < BINARY_TTL / 2 and call('EXISTS', base .. id .. ':lock') == 0 then
      call('PEXPIRE', key, BINARY_TTL)
    end
  end
end
return { page[1], removed }
