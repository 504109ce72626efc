-- Jobs that were claimed ahead of need, a set outside the queue's keys: `<prefix>::sandboxq:ahead:<queue>`.
-- Their worker has them, but nobody knows that they have begun: when it dies they have not stalled.
--   ahead_key(base)   the name of the set
-- @include call

local function ahead_key(base)
  local prefix, name = string.match(base, '^(.*):([^:]*):$')
  return prefix .. '::sandboxq:ahead:' .. name
end
