-- delete_jobs(keys): delete everything stored under these job keys, except their locks (1.5).
-- Their arrays and bytes go too.
-- @include binary
-- @include chunks

local function delete_jobs(keys)
  drop_binaries(keys)
  local all = {}
  for i = 1, #keys do
    local key = keys[i]
    local last = #all
    all[last + 1] = key
    all[last + 2] = key .. ':logs'
    all[last + 3] = key .. ':dependencies'
    all[last + 4] = key .. ':processed'
    all[last + 5] = key .. ':failed'
    all[last + 6] = key .. ':unsuccessful'
  end
  in_chunks('DEL', nil, all)
end
