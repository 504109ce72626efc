-- walk(job, children_of, enter, leave): go through the jobs below one, and it itself, each once, whatever
-- ring they are in. children_of(key): the keys of those below; enter(job, parent): before them, false passes over a
-- job and all below it; leave(job): after them. A job is as parents.lua has it.
-- Without recursion: a flow may be deeper than Lua's stack.
-- @include parents

local function walk(root, children_of, enter, leave)
  local seen = { [root.key] = true }
  local path = {}
  local function go_to(job, parent)
    if enter(job, parent) ~= false then
      path[#path + 1] = { job = job, children = children_of(job.key), at = 0 }
    end
  end
  go_to(root)
  while #path > 0 do
    local last = path[#path]
    last.at = last.at + 1
    local key = last.children[last.at]
    if not key then
      path[#path] = nil
      leave(last.job)
    elseif not seen[key] then
      seen[key] = true
      go_to(job_of(key, last.job.base), last.job)
    end
  end
end
