-- Parts of hashes: what is long is cut here, so that it does not travel.
--   field_specs(args, at)     read pairs (field, most) from args[at] on, of which there are args[at - 1]; return them
--                             and the place behind them. most: this many bytes of the front, or of the end when negative
--   cut_fields(key, specs)    for each the part and its whole length, in one list; an empty list where there is no hash.
--                             Of fields above MOST_WHOLE nothing is read but the length
-- @include call

-- To cut a value Redis copies the whole of it.
local MOST_WHOLE = 8388608

local function field_specs(args, at)
  local count, specs = tonumber(args[at - 1]), {}
  for i = 1, count do
    specs[i] = { args[at], tonumber(args[at + 1]) }
    at = at + 2
  end
  return specs, at
end

local function part_of(key, field, most)
  local size = call('HSTRLEN', key, field)
  if size == 0 or size > MOST_WHOLE or most == 0 then
    return '', size
  end
  local value = call('HGET', key, field)
  if size <= math.abs(most) then
    return value, size
  end
  return most > 0 and string.sub(value, 1, most) or string.sub(value, most), size
end

local function cut_fields(key, specs)
  local parts = {}
  local found = try('HLEN', key)
  if type(found) ~= 'number' or found == 0 then
    return parts
  end
  for i = 1, #specs do
    parts[2 * i - 1], parts[2 * i] = part_of(key, specs[i][1], specs[i][2])
  end
  return parts
end
