-- Read lines of a job's log, long ones cut.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     job id, first and last line as of LRANGE, bytes of each line
-- Returns  how many lines there are, then for each its part and its whole length
-- @include call

local base = KEYS[1]
local key, first, last, most = base .. ARGV[1] .. ':logs', ARGV[2], ARGV[3], tonumber(ARGV[4])

local total = try('LLEN', key)
if type(total) ~= 'number' then
  return { 0, {} }
end
local lines, told = call('LRANGE', key, first, last), {}
for i = 1, #lines do
  told[i] = { string.sub(lines[i], 1, most), #lines[i] }
end
return { total, told }
