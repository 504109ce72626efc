-- Read what an overview shows of a queue: settings, counts, minutes, and the oldest job that waits.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV[1]  minutes: how many of the newest minutes of metrics
-- Returns  exists, settings, counts, completed, failed, due
--          settings   paused, version, concurrency, max, duration; '' where there is none
--          counts     waiting, active, prioritized, delayed, waiting-children, completed, failed
--          completed, failed   in all, in all when the newest minute was written, when that was, the minutes
--          due        when the oldest job that waits was due in ms: of both ends of each list, and of
--                     priorities the next one, the last one and the first of the lowest; '' when none waits
-- @include call
-- @include fields
-- @include numbers

local base, minutes = KEYS[1], tonumber(ARGV[1])
local PER_PRIORITY = 4294967296 -- scores of one priority

local function text(value)
  return value or ''
end

local function count(command, name)
  local found = try(command, base .. name)
  return type(found) == 'number' and found or 0
end

local function members(...)
  local found = try(...)
  if type(found) ~= 'table' then
    return { found or nil }
  end
  return found.err and {} or found
end

local function metrics(kind)
  local key = base .. 'metrics:' .. kind
  local stored = fields_of(key, 'count', 'prevCount', 'prevTS')
  local data = minutes > 0 and members('LRANGE', key .. ':data', 0, minutes - 1) or {}
  return { text(stored[1]), text(stored[2]), text(stored[3]), data }
end

local function due_of(id, oldest)
  local stored = fields_of(base .. id, 'timestamp', 'delay')
  local since = whole(stored[1])
  if not since or since == 0 then
    return oldest
  end
  local due = since + (whole(stored[2]) or 0)
  return (not oldest or due < oldest) and due or oldest
end

local function oldest_of(lists)
  local oldest
  for i = 1, #lists do
    for j = 1, #lists[i] do
      oldest = due_of(lists[i][j], oldest)
    end
  end
  return oldest
end

local function ends(counts)
  local lists = {}
  for _, name in ipairs(counts[1] > 0 and { 'wait', 'paused' } or {}) do
    lists[#lists + 1] = members('LINDEX', base .. name, 0)
    lists[#lists + 1] = members('LINDEX', base .. name, -1)
  end
  if counts[3] == 0 then
    return lists
  end
  local prioritized = base .. 'prioritized'
  local last = members('ZRANGE', prioritized, -1, -1, 'WITHSCORES')
  lists[#lists + 1] = members('ZRANGE', prioritized, 0, 0)
  lists[#lists + 1] = { last[1] }
  local lowest = math.floor(tonumber(last[2]) / PER_PRIORITY) * PER_PRIORITY
  local least = string.format('%.0f', lowest)
  lists[#lists + 1] = members('ZRANGEBYSCORE', prioritized, least, '+inf', 'LIMIT', 0, 1)
  return lists
end

local settings = fields_of(base .. 'meta', 'paused', 'version', 'concurrency', 'max', 'duration')
local counts = {
  count('LLEN', 'wait') + count('LLEN', 'paused'),
  count('LLEN', 'active'),
  count('ZCARD', 'prioritized'),
  count('ZCARD', 'delayed'),
  count('ZCARD', 'waiting-children'),
  count('ZCARD', 'completed'),
  count('ZCARD', 'failed'),
}
local told = {}
for i = 1, 5 do
  told[i] = text(settings[i])
end
local oldest = oldest_of(ends(counts))
return {
  call('EXISTS', base .. 'meta'),
  told,
  counts,
  metrics('completed'),
  metrics('failed'),
  oldest and string.format('%.0f', oldest) or '',
}
