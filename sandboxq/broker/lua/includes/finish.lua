-- Attempts that end a job (protocol.md 3.11). What nearly all of them need is here, the rest in ends.lua.
--   open_outcome(outcome)    fails where the set of finished jobs is none
--   finish(batch, outcome, id, key, job, text, keep, usage, told)   of a job that has left active; keep: a
--                            rule, see retention.lua; told: further fields of the event, nil: none
--   complete_plain(batch, id, key, value, rule, usage)   of a plain job: as its claim has told, it was never
--                            run before, has no parent and no `deid`; as its id is the queue's own, no later
--                            add can give it one. → 0 or -3, not active
-- job: ats, atm
-- @include active
-- @include batch
-- @include digits
-- @include retention

-- What is known of a plain job.
local NEVER_RUN = { false, false, false, false }

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

-- Returns the attempts made, this one included.
local function finish(batch, outcome, id, key, job, text, keep, usage, told)
  local attempts_made = job[2] and (whole(job[2], -1) or 0) + 1 or 1
  if keep.count == 0 then
    outcome.removed[#outcome.removed + 1] = key
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
  if told then
    try('XADD', batch.queue.events, '*', 'event', outcome.name, 'jobId', id,
      outcome.property, text, 'prev', 'active', unpack(told))
  else
    try('XADD', batch.queue.events, '*',
      'event', outcome.name, 'jobId', id, outcome.property, text, 'prev', 'active')
  end
  return attempts_made
end

local function complete_plain(batch, id, key, value, rule, usage)
  open_outcome(batch.completed)
  if not leave_active(batch, id, -1) then
    return -3
  end
  finish(batch, batch.completed, id, key, NEVER_RUN, value, keep_rule(rule), usage)
  return 0
end
