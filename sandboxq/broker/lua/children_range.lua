-- Part of a job's children, counted from the first in the order of SCAN: that order holds as long as
-- no child is added or ends. Looks at about 5000 children a call.
--
-- KEYS[1]  `<job key>:processed`, `:failed` or `:dependencies`
-- ARGV     HSCAN or SSCAN, cursor ('0' at first), how many to skip, how many to return
-- Returns  {cursor of the next call ('0': at the end), how many are still to be skipped, children}
-- @include call

local key, scan, cursor = KEYS[1], ARGV[1], ARGV[2]
local skip, wanted = tonumber(ARGV[3]), tonumber(ARGV[4])
local step = scan == 'HSCAN' and 2 or 1
local found = {}

for _ = 1, 50 do
  local page = call(scan, key, cursor, 'COUNT', 100)
  cursor = page[1]
  local children = page[2]
  local skipped = math.min(skip, #children / step)
  skip = skip - skipped
  for i = skipped * step + 1, #children do
    if #found == wanted * step then
      break
    end
    found[#found + 1] = children[i]
  end
  if cursor == '0' or #found == wanted * step then
    break
  end
end
return { cursor, skip, found }
