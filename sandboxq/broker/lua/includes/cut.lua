-- Parts of hashes: what is long is cut here, so that it does not travel.
--   field_specs(args, at)     read pairs (field, most) from args[at] on, of which there are args[at - 1]; return them
--                             and the place behind them. most: this many bytes of the front, or of the end when negative
--   cut_fields(key, specs)    for each the part and its whole length, in one list; an empty list where there is no hash.
--                             Of fields that are too large nothing is read but the length
-- @include call

-- To cut a value Redis copies the whole of it.
local MOST_WHOLE = 8388608
-- For a glance at a field of more bytes than this none of them is copied; a call that has copied so many in all
-- copies no more.
local GLANCE, MOST_GLANCED_AT, MOST_COPIED = 4096, 262144, 33554432
local copied = 0
-- Fields of which no more is wanted are short by their nature: they are read together, whatever they have.
local SHORT = 200

local function field_specs(args, at)
  local count, specs = tonumber(args[at - 1]), { short = {}, long = {}, names = {} }
  for i = 1, count do
    local name, most = args[at], tonumber(args[at + 1])
    if most > 0 and most <= SHORT then
      specs.names[#specs.names + 1] = name
      specs.short[#specs.short + 1] = { i, most }
    else
      specs.long[#specs.long + 1] = { i, name, most }
    end
    at = at + 2
  end
  return specs, at
end

local function part_of(key, field, most)
  local size = call('HSTRLEN', key, field)
  local is_too_much = size > MOST_WHOLE or copied > MOST_COPIED
    or (math.abs(most) <= GLANCE and size > MOST_GLANCED_AT)
  if size == 0 or most == 0 or is_too_much then
    return '', size
  end
  copied = copied + size
  local value = call('HGET', key, field)
  if size <= math.abs(most) then
    return value, size
  end
  return most > 0 and string.sub(value, 1, most) or string.sub(value, most), size
end

local function cut_fields(key, specs)
  local parts = {}
  local found = try('EXISTS', key) == 1 and try('HMGET', key, 'name', unpack(specs.names))
  if not found or found.err then
    return parts
  end
  for i, spec in ipairs(specs.short) do
    local value = found[i + 1] or ''
    parts[2 * spec[1] - 1], parts[2 * spec[1]] = string.sub(value, 1, spec[2]), #value
  end
  for _, spec in ipairs(specs.long) do
    parts[2 * spec[1] - 1], parts[2 * spec[1]] = part_of(key, spec[2], spec[3])
  end
  return parts
end
