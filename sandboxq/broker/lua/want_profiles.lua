-- Have the next runs of a job name sampled, as far as workers get to them in time.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     name; how many runs, '0' none any more; until when, ms since 1970; for how many ms;
--          how they are sampled, as the workers read it
-- Returns  0, -1 there are too many such names
-- Events   none
-- @include profiles

local base = KEYS[1]
local name, runs, ends_at, lives, how = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
-- Names at once: each worker of the queue compares them with those of its jobs.
local MOST_NAMES = 20

local key = beside(base, 'profile-next')
if runs == '0' then
  call('HDEL', key, name)
  return 0
end
if call('HEXISTS', key, name) == 0 and call('HLEN', key) >= MOST_NAMES then
  return -1
end
call('HSET', key, name, runs .. ' ' .. ends_at .. ' ' .. how)
call('PEXPIRE', key, math.max(lives, call('PTTL', key)))
return 0
