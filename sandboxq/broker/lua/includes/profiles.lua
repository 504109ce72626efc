-- What was sampled of runs of a job: a list for each, the newest first,
-- `<prefix>::sandboxq:profile:<queue>:<id>`. The list `<prefix>::sandboxq:profiles:<queue>` has the ids of the
-- jobs that have any, the newest first.
--   profiled_of(base)                  the name of that list
--   keep_profile(base, id, profile)    keep it, with the last ones of its job
--   drop_profiles(base, keys)          remove those of the jobs of this queue with these keys
-- @include fields

-- A job's last few, of so many jobs, for 7 days, in ms: whoever removes a job may not know of them.
local PROFILES_OF_JOB, PROFILED_JOBS = 5, 100
local PROFILE_TTL = 604800000

local function beside(base, what)
  local prefix, name = string.match(base, '^(.*):([^:]*):$')
  return (prefix or base) .. '::sandboxq:' .. what .. ':' .. (name or '')
end

local function profiled_of(base)
  return beside(base, 'profiles')
end

local function profile_of(base, id)
  return beside(base, 'profile') .. ':' .. id
end

local function keep_profile(base, id, profile)
  local key, index = profile_of(base, id), profiled_of(base)
  call('LPUSH', key, profile)
  call('LTRIM', key, 0, PROFILES_OF_JOB - 1)
  call('PEXPIRE', key, PROFILE_TTL)
  call('LREM', index, 0, id)
  if call('LPUSH', index, id) > PROFILED_JOBS then
    call('UNLINK', profile_of(base, call('RPOP', index)))
  end
  call('PEXPIRE', index, PROFILE_TTL)
end

local function drop_profiles(base, keys)
  for i = 1, #keys do
    if string.sub(keys[i], 1, #base) == base then
      local id = string.sub(keys[i], #base + 1)
      if call('UNLINK', profile_of(base, id)) == 1 then
        try('LREM', profiled_of(base), 0, id)
      end
    end
  end
end
