-- in_chunks(command, key, items, ...): run one variadic command over a list of any length.
-- Lua unpacks at most about 8000 values at once. `key` may be nil for commands that take only items.
-- @include call

local function in_chunks(command, key, items)
  for first = 1, #items, 4000 do
    local last = math.min(first + 3999, #items)
    if key then
      call(command, key, unpack(items, first, last))
    else
      call(command, unpack(items, first, last))
    end
  end
end
