-- Read what a drawing of a flow shows of one job: parts of its hash, its children by kind, counted and some of them.
--
-- KEYS[1]  a job's key
-- ARGV[1]  how many children of each kind
-- then     number of fields, for each its name and how many bytes of it
-- Returns  its fields, see peek.lua (empty when there is no such job); for the kinds processed, unprocessed, ignored and
--          failed how many children there are; the keys of some
-- @include cut

local key, most = KEYS[1], tonumber(ARGV[1])
local specs = field_specs(ARGV, 3)

-- By kind: what holds them, how they are counted and read.
local KINDS = {
  { ':processed', 'HLEN', 'HSCAN', 2 },
  { ':dependencies', 'SCARD', 'SSCAN', 1 },
  { ':failed', 'HLEN', 'HSCAN', 2 },
  { ':unsuccessful', 'ZCARD', 'ZSCAN', 2 },
}

-- A walk copies values too, which are results of megabytes: of so few the names alone are read.
local FEW = 1000

local function add_some(keys, place, kind, count)
  local found, step, taken = nil, kind[4], 0
  if kind[3] == 'HSCAN' and count <= FEW then
    found, step = call('HKEYS', place), 1
  else
    found = call(kind[3], place, '0', 'COUNT', most)[2]
  end
  for i = 1, #found, step do
    if taken >= most then
      return
    end
    keys[#keys + 1] = found[i]
    taken = taken + 1
  end
end

local counts, keys = {}, {}
for i = 1, #KINDS do
  local kind = KINDS[i]
  local count = try(kind[2], key .. kind[1])
  counts[i] = type(count) == 'number' and count or 0
  if counts[i] > 0 and most > 0 then
    add_some(keys, key .. kind[1], kind, counts[i])
  end
end
return { cut_fields(key, specs), counts, keys }
