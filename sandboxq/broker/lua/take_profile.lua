-- Take one of the runs of a job name that are to be sampled (want_profiles.lua).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     name, now (ms since 1970)
-- Returns  1, or 0 when none is left
-- Events   none
-- @include profiles

local base = KEYS[1]
local name, now = ARGV[1], tonumber(ARGV[2])

local key = beside(base, 'profile-next')
local runs, ends_at, how = string.match(call('HGET', key, name) or '', '^(%d+) (%d+) (.*)$')
if not runs or tonumber(ends_at) <= now then
  call('HDEL', key, name)
  return 0
end
if tonumber(runs) <= 1 then
  call('HDEL', key, name)
else
  call('HSET', key, name, string.format('%d %s %s', runs - 1, ends_at, how))
end
return 1
