-- Find the active jobs that are locked by one of these tokens.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     how many active jobs to look at, last claimed first, 0: all; then tokens
-- Returns  id and token of each in turns, last claimed first
-- @include locks

local base = KEYS[1]

local wanted = {}
for at = 2, #ARGV do
  wanted[ARGV[at]] = true
end

local ids = call('LRANGE', base .. 'active', 0, ARGV[1] - 1)
local found, locks = {}, locks_of(base, ids)
for i = 1, #ids do
  if wanted[locks[i]] then
    found[#found + 1] = ids[i]
    found[#found + 1] = locks[i]
  end
end
return found
