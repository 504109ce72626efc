-- Tell where jobs are (protocol.md 3.24).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     job ids
-- Returns  for each its state in BullMQ's words, `unknown` when it is nowhere
-- @include call

local base = KEYS[1]

local SETS = { 'completed', 'failed', 'delayed', 'prioritized' }
local LISTS = { { 'active', 'active' }, { 'wait', 'waiting' }, { 'paused', 'waiting' } }

local function state_of(id)
  for _, name in ipairs(SETS) do
    if type(try('ZSCORE', base .. name, id)) == 'string' then
      return name
    end
  end
  for _, list in ipairs(LISTS) do
    if type(try('LPOS', base .. list[1], id)) == 'number' then
      return list[2]
    end
  end
  local score = try('ZSCORE', base .. 'waiting-children', id)
  return type(score) == 'string' and 'waiting-children' or 'unknown'
end

local states = {}
for i = 1, #ARGV do
  states[i] = state_of(ARGV[i])
end
return states
