-- Let further jobs with a deduplication id be added, if a job is the one that counts
-- (protocol.md 3.5).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     deduplication id, job id
-- Returns  1 when the key was the job's and is gone, else 0
-- @include call

local base, deid, id = KEYS[1], ARGV[1], ARGV[2]

local key = base .. 'de:' .. deid
if call('GET', key) == id then
  return call('DEL', key)
end
return 0
