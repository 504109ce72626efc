-- The arrays and bytes of jobs and results: one string key for each,
-- `<prefix>::sandboxq:binary:<queue>:<id>`, named in field `sq:binary` or `sq:result` of its job's hash: `<key>\n<bytes>\n<table, JSON>`.
-- The queue's index, `<prefix>::sandboxq:binaries:<queue>`, has the job's id by key: with it those are
-- found whose job was removed by somebody who does not know of them (sweep_binaries.lua).
--   index_of(base)                           the name of the index
--   key_of(reference)                        the key in such a field
--   bind_binary(base, id, reference, delay)  let it live as long as its job, which is due in delay ms
--   drop_binary(base, reference)             remove it; nil is none
--   drop_binaries(base, keys)                remove those of the jobs of this queue with these keys
-- @include queue

-- So long may a queue be without a sandboxq worker, who renews this: 30 days, in ms.
local BINARY_TTL = 2592000000
-- A delay is no longer than this here: Lua writes larger numbers with an exponent.
local LONGEST_DELAY = 10000000000000

local function index_of(base)
  local prefix, name = string.match(base, '^(.*):([^:]*):$')
  -- A parent of which nothing but nonsense is known has a queue of no name.
  return (prefix or base) .. '::sandboxq:binaries:' .. (name or '')
end

local function key_of(reference)
  return string.match(reference, '^[^\n]*')
end

local function bind_binary(base, id, reference, delay)
  call('PEXPIRE', key_of(reference), BINARY_TTL + math.min(delay, LONGEST_DELAY))
  try('HSET', index_of(base), key_of(reference), id)
end

local function drop_binary(base, reference)
  if reference then
    call('UNLINK', key_of(reference))
    try('HDEL', index_of(base), key_of(reference))
  end
end

local function drop_binaries(base, keys)
  for i = 1, #keys do
    if string.sub(keys[i], 1, #base) == base then
      local stored = fields_of(keys[i], 'sq:binary', 'sq:result')
      drop_binary(base, stored[1])
      drop_binary(base, stored[2])
    end
  end
end
