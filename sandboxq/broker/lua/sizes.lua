-- Count the members of a queue's lists and sorted sets.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     their names
-- Returns  for each how many; 0 for a key of another type
-- @include call

local base = KEYS[1]

local sizes = {}
for i = 1, #ARGV do
  local key = base .. ARGV[i]
  local found = try('ZCARD', key)
  if type(found) ~= 'number' then
    found = try('LLEN', key)
  end
  sizes[i] = type(found) == 'number' and found or 0
end
return sizes
