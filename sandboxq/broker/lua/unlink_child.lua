-- Break the tie between a child and its parent (protocol.md 3.21).
--
-- KEYS[1]  base of the child's queue, `<prefix>:<queue>:`
-- ARGV     job id
-- Returns  1, or 0 it is no pending child of a parent, -1 there is no such job, -5 its parent is gone
-- Events   waiting, in the parent's queue, for a parent whose last pending child it was
-- @include parents

local key = KEYS[1] .. ARGV[1]

if call('EXISTS', key) == 0 then
  return -1
end
local stored = fields_of(key, 'parentKey', 'parent')
if not stored[1] then
  return 0
end
if call('EXISTS', stored[1]) == 0 then
  return -5
end
if call('SISMEMBER', stored[1] .. ':dependencies', key) == 0 then
  return 0
end
unlink_softly(key, parent_of(stored[1], stored[2]))
call('HDEL', key, 'parentKey', 'parent')
return 1
