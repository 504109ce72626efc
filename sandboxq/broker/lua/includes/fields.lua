-- fields_of(key, ...): these fields of a hash, false where there is none. A key of another type has none:
-- it must not keep other jobs from what is done with them.
-- @include call

local function fields_of(key, ...)
  local stored = try('HMGET', key, ...)
  return stored.err and {} or stored
end
