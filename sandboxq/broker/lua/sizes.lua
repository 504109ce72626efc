-- Count the members of a queue's lists and sorted sets.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     their names
-- Returns  for each how many; 0 for a key of another type
-- @include call

local base = KEYS[1]

local LISTS = { wait = true, paused = true, active = true }
local sizes = {}
for i = 1, #ARGV do
  -- By the type that it should have: what is counted is read as that later.
  local found = try(LISTS[ARGV[i]] and 'LLEN' or 'ZCARD', base .. ARGV[i])
  sizes[i] = type(found) == 'number' and found or 0
end
return sizes
