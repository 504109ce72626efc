-- locks_of(base, ids): the tokens of these jobs' locks in the same order, false for each that has none.
-- @include call

local function locks_of(base, ids)
  local locks = {}
  for first = 1, #ids, 1000 do
    local keys = {}
    for i = first, math.min(first + 999, #ids) do
      keys[#keys + 1] = base .. ids[i] .. ':lock'
    end
    local some = call('MGET', unpack(keys))
    for i = 1, #keys do
      locks[first + i - 1] = some[i]
    end
  end
  return locks
end
