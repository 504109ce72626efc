-- delete_jobs(keys): delete everything stored under these job keys, except their locks (1.5).
-- Their arrays and bytes go too, and what was sampled of them.
-- @include binary
-- @include chunks
-- @include profiles

-- Queues without any are told by one question for all jobs.
local function drop_beside(keys)
  for base in pairs(open_queues) do
    if call('EXISTS', index_of(base), profiled_of(base)) > 0 then
      drop_binaries(base, keys)
      drop_profiles(base, keys)
    end
  end
end

local function delete_jobs(keys)
  drop_beside(keys)
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
