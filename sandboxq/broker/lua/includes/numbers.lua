-- Numbers as anybody may have written them: text, fractions, `nan`, `1e400`.
--   finite(value, least, most)  the number, brought between these (0 and the largest integer that Lua
--                               counts exactly); nil for what is none
--   whole(value, least, most)   its whole part
-- @include call

local MOST_EXACT = 9007199254740991

local function finite(value, least, most)
  local number = tonumber(value)
  if not number or number ~= number then
    return nil
  end
  return math.min(math.max(number, least or 0), most or MOST_EXACT)
end

local function whole(value, least, most)
  local number = finite(value, least, most)
  return number and math.floor(number)
end
