-- Attempts that end a job which is not plain (protocol.md 3.11).
--   complete(batch, id, key, job, value, rule, usage)    rule: see retention.lua; then, behind a line break,
--                                                 the reference to the value's arrays and bytes
--   fail(batch, id, key, job, reason, rule, usage)       rule: JSON, see failure.lua; + keep, attempts
-- job: ats, atm, parentKey, deid. → 0 or -3, not active
-- A failed event has sq:cause, the class of the error, and sq:attempt, for those who wait for a job that goes.
-- What cannot be right (the set is none, the hash is none) fails before anything is written. What becomes
-- of parents, of the next job of a deduplication, of arrays and bytes keeps no job from its end.
-- @include binary
-- @include deduplication
-- @include failure
-- @include family
-- @include finish

-- What waits for the value reads it soon after the event; then it goes as its job has. In ms.
local LAST_READING = 60000

-- A job that does not stay is forgotten by its parent.
local function unlink(keep, key, parent)
  if keep.count == 0 then
    pcall(unlink_softly, key, parent)
  end
end

local function keep_binary(base, id, key, binary, keep)
  if keep.count == 0 then
    call('PEXPIRE', key_of(binary), LAST_READING)
    call('HDEL', index_of(base), key_of(binary))
  else
    drop_binary(base, call('HGET', key, 'sq:result'))
    call('HSET', key, 'sq:result', binary)
    bind_binary(base, id, binary, 0)
  end
end

local function complete(batch, id, key, job, value, rule, usage)
  local binary
  local line_break = string.find(rule, '\n', 1, true)
  if line_break then
    binary = string.sub(rule, line_break + 1)
    rule = string.sub(rule, 1, line_break - 1)
  end
  open_outcome(batch.completed)
  if not leave_active(batch, id, -1) then
    return -3
  end
  if job[4] then
    pcall(release_deduplication, batch.queue, id, job[4], batch.now)
  end
  local keep = keep_rule(rule)
  if job[3] then
    local parent = parent_of(job[3], call('HGET', key, 'parent'))
    pcall(child_completed, parent, key, value, batch.now)
    unlink(keep, key, parent)
  end
  if binary then
    pcall(keep_binary, batch.queue.base, id, key, binary, keep)
  end
  finish(batch, batch.completed, id, key, job, value, keep, usage,
    binary and { 'sq:result', binary })
  return 0
end

local function cause_of(rule)
  return rule.facts[1] == 'sq:cause' and rule.facts[2] or ''
end

local function fail(batch, id, key, job, reason, rule_json, usage)
  local rule = cjson.decode(rule_json)
  open_outcome(batch.failed)
  write_failure(key, reason, rule)
  if not leave_active(batch, id, -1) then
    return -3
  end
  if job[4] then
    pcall(release_deduplication, batch.queue, id, job[4], batch.now)
  end
  local keep = keep_rule(rule.keep)
  if job[3] then
    local parent = parent_of(job[3], call('HGET', key, 'parent'))
    local _, has_failed_child = pcall(child_failed, parent, key, reason, batch.now)
    -- The parent itself may come later in this call.
    batch.has_children = has_failed_child or batch.has_children
    unlink(keep, key, parent)
  end
  local told = { 'sq:attempt', digits((whole(job[2] or '0', -1) or 0) + 1), 'sq:cause', cause_of(rule) }
  local attempts_made = finish(batch, batch.failed, id, key, job, reason, keep, usage, told)
  if keep.count ~= 0 then
    call('HDEL', key, 'defa')
  end
  if attempts_made >= rule.attempts then
    try('XADD', batch.queue.events, '*',
      'event', 'retries-exhausted', 'jobId', id, 'attemptsMade', attempts_made)
  end
  return 0
end
