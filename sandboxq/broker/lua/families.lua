-- Jobs together with the keys of their first children, for drawing a flow (protocol.md 3.23). A key
-- of another type is no job, and names no children.
--
-- KEYS     the keys of the jobs, at most about a hundred
-- ARGV     how many children of each kind; 0: none
-- Returns  for each job {its hash, then the keys of children: completed, pending, failed with their
--          parent, ignored}
-- @include fields

local limit = tonumber(ARGV[1])

-- SCAN's COUNT is a hint: it may give more, or fewer although there are more.
local function first_members(scan, key)
  local step = scan == 'HSCAN' and 2 or 1
  local found, cursor = {}, '0'
  repeat
    local page = try(scan, key, cursor, 'COUNT', limit)
    if page.err then
      return {}
    end
    cursor = page[1]
    for i = 1, #page[2], step do
      if #found == limit then
        return found
      end
      found[#found + 1] = page[2][i]
    end
  until cursor == '0'
  return found
end

local function family_of(key)
  if limit == 0 then
    return { all_fields_of(key), {}, {}, {}, {} }
  end
  local failed = try('ZRANGE', key .. ':unsuccessful', 0, limit - 1)
  return {
    all_fields_of(key),
    first_members('HSCAN', key .. ':processed'),
    first_members('SSCAN', key .. ':dependencies'),
    failed.err and {} or failed,
    first_members('HSCAN', key .. ':failed'),
  }
end

local families = {}
for i, key in ipairs(KEYS) do
  families[i] = family_of(key)
end
return families
