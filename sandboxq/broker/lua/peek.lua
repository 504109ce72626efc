-- Read parts of jobs, of any size, for those who look at them.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     number of fields, then for each its name and how many bytes of it, then job ids
-- Returns  for each a part and the whole length of each field; an empty list when there is no such job
-- @include cut

local base = KEYS[1]
local specs, first = field_specs(ARGV, 2)

local rows = {}
for i = first, #ARGV do
  rows[#rows + 1] = cut_fields(base .. ARGV[i], specs)
end
return rows
