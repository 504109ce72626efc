-- Read the hashes of jobs.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     job ids
-- Returns  for each its fields: name, value, …; none when there is no such job, or its key is no hash
-- @include fields

local base = KEYS[1]

local hashes = {}
for i = 1, #ARGV do
  hashes[i] = all_fields_of(base .. ARGV[i])
end
return hashes
