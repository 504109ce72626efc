-- Read lines of a job's log, long ones cut.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     job id, first and last line as of LRANGE, bytes of each line
-- Returns  how many lines there are, then for each its part and its whole length; fewer than asked for when they
--          are very long
-- @include call

local base = KEYS[1]
local key, first, last, most = base .. ARGV[1] .. ':logs', ARGV[2], ARGV[3], tonumber(ARGV[4])

local total = try('LLEN', key)
if type(total) ~= 'number' then
  return { 0, {} }
end
local function place(number)
  return math.max(0, number < 0 and total + number or number)
end

-- Some at a time: lines may be of megabytes, and Redis copies them whole.
local STEP, MOST_COPIED = 20, 8388608
local told, copied = {}, 0
local from, to = place(tonumber(first)), math.min(place(tonumber(last)), total - 1)
while from <= to and copied < MOST_COPIED do
  local lines = call('LRANGE', key, from, math.min(from + STEP - 1, to))
  for i = 1, #lines do
    told[#told + 1] = { string.sub(lines[i], 1, most), #lines[i] }
    copied = copied + #lines[i]
  end
  from = from + STEP
end
return { total, told }
