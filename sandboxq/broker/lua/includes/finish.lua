-- Attempts that end a job (bullmq-wire.md 3.11).
--   complete(batch, id, key, job, value, rule, usage)    rule: see retention.lua; then, behind a line break,
--                                                 the reference to the value's arrays and bytes
--   fail(batch, id, key, job, reason, rule, usage)       rule: JSON, see failure.lua; + keep, attempts
--   complete_plain(batch, id, key, value, rule, usage)   of a plain job: as its claim has told, it was never
--                                                 run before, has no parent and no `deid`; as its id is
--                                                 the queue's own, no later add can give it one
-- job: ats, atm, parentKey, deid. → 0 or -3, not active
-- What cannot be right (the set is none, the hash is none) fails before anything is written. What becomes
-- of parents, of the next job of a deduplication, of arrays and bytes keeps no job from its end.
-- @include active
-- @include batch
-- @include binary
-- @include deduplication
-- @include digits
-- @include failure
-- @include family
-- @include retention

-- What waits for the value reads it soon after the event; then it goes as its job has. In ms.
local LAST_READING = 60000

-- What is known of a plain job.
local NEVER_RUN = { false, false, false, false }

-- Fails where the set of finished jobs is none.
local function open_outcome(outcome)
  if not outcome.is_open then
    call('ZCARD', outcome.set)
    outcome.is_open = true
  end
end

-- Notes a job for the set of finished ones. Rules that differ are applied in turns.
local function add_scored(batch, outcome, id, keep, now)
  if outcome.keep ~= keep then
    store_finished(batch, outcome)
    outcome.keep = keep
  end
  local scored = outcome.scored
  local last = #scored
  scored[last + 1] = now
  scored[last + 2] = id
end

-- Returns the attempts made, this one included. `binary` is the reference of a value that has any.
local function finish(batch, outcome, id, key, job, text, keep, usage, binary)
  local attempts_made = job[2] and (whole(job[2], -1) or 0) + 1 or 1
  if keep.count == 0 then
    outcome.removed[#outcome.removed + 1] = key
    if job[3] then
      pcall(unlink_softly, key, parent_of(job[3], call('HGET', key, 'parent')))
    end
  else
    local now = digits(batch.now)
    if usage and usage ~= '' then
      call('HSET', key, outcome.property, text, 'finishedOn', now,
        'atm', digits(attempts_made), 'sq:usage', usage)
    else
      call('HSET', key, outcome.property, text, 'finishedOn', now,
        'atm', digits(attempts_made))
    end
    -- Not before: where the hash cannot be written, the job stays active.
    add_scored(batch, outcome, id, keep, now)
  end
  outcome.finished = outcome.finished + 1
  if binary then
    try('XADD', batch.queue.events, '*', 'event', outcome.name, 'jobId', id,
      outcome.property, text, 'prev', 'active', 'sq:result', binary)
  else
    try('XADD', batch.queue.events, '*',
      'event', outcome.name, 'jobId', id, outcome.property, text, 'prev', 'active')
  end
  return attempts_made
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
  if job[3] then
    local parent = parent_of(job[3], call('HGET', key, 'parent'))
    pcall(child_completed, parent, key, value, batch.now)
  end
  if binary then
    pcall(keep_binary, batch.queue.base, id, key, binary, keep_rule(rule))
  end
  finish(batch, batch.completed, id, key, job, value, keep_rule(rule), usage, binary)
  return 0
end

local function complete_plain(batch, id, key, value, rule, usage)
  open_outcome(batch.completed)
  if not leave_active(batch, id, -1) then
    return -3
  end
  finish(batch, batch.completed, id, key, NEVER_RUN, value, keep_rule(rule), usage)
  return 0
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
  if job[3] then
    local parent = parent_of(job[3], call('HGET', key, 'parent'))
    local _, has_failed_child = pcall(child_failed, parent, key, reason, batch.now)
    -- The parent itself may come later in this call.
    batch.has_children = has_failed_child or batch.has_children
  end
  local keep = keep_rule(rule.keep)
  local attempts_made = finish(batch, batch.failed, id, key, job, reason, keep, usage)
  if keep.count ~= 0 then
    call('HDEL', key, 'defa')
  end
  if attempts_made >= rule.attempts then
    try('XADD', batch.queue.events, '*',
      'event', 'retries-exhausted', 'jobId', id, 'attemptsMade', attempts_made)
  end
  return 0
end
