-- Read the hashes of jobs.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     job ids
-- Returns  for each its fields: name, value, …; none when there is no such job, or its key is no hash
-- @include call

local base = KEYS[1]

local hashes = {}
for i = 1, #ARGV do
  local stored = try('HGETALL', base .. ARGV[i])
  hashes[i] = stored.err and {} or stored
end
return hashes
