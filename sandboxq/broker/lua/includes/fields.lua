-- Hashes, of which a key of another type has no fields: it must not keep other jobs from what is done with
-- them.
--   fields_of(key, ...)   these fields, false where there is none
--   all_fields_of(key)    name, value, …
-- @include call

local function fields_of(key, ...)
  local stored = try('HMGET', key, ...)
  return stored.err and {} or stored
end

local function all_fields_of(key)
  local stored = try('HGETALL', key)
  return stored.err and {} or stored
end
