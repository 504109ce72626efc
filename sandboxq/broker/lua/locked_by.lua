-- Find the active jobs that are locked by one of these tokens.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     how many active jobs to look at, last claimed first, 0: all; then tokens
-- Returns  id and token of each in turns, last claimed first
-- @include call

local base = KEYS[1]

local wanted = {}
for at = 2, #ARGV do
  wanted[ARGV[at]] = true
end

local ids = call('LRANGE', base .. 'active', 0, ARGV[1] - 1)
local found = {}
for first = 1, #ids, 1000 do
  local lock_keys = {}
  for i = first, math.min(first + 999, #ids) do
    lock_keys[#lock_keys + 1] = base .. ids[i] .. ':lock'
  end
  local locks = call('MGET', unpack(lock_keys))
  for i = 1, #lock_keys do
    if wanted[locks[i]] then
      found[#found + 1] = ids[first + i - 1]
      found[#found + 1] = locks[i]
    end
  end
end
return found
