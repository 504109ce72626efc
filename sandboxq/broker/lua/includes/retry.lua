-- Attempts after which the job goes on (protocol.md 3.13, 3.14, 3.16).
--   retry_now(batch, id, key, job, reason, rule, usage)     rule: JSON, see failure.lua; + lifo
--   retry_later(batch, id, key, job, reason, rule, usage)   rule: JSON, see failure.lua; + delay (ms)
--   hand_back(batch, id, key, job, facts, was_started)  no attempt counts; '1' when it had begun
--                                                    and it goes in front of all others; facts:
--                                                    '' or sq: fields (name, value, …), JSON
--   delay_job(batch, id, key, delay)                 into delayed for so many ms
-- job: ats, atm. → 0 or -3, not active
-- A job is counted and told of after it has got where it goes: what fails has put it nowhere.
-- @include active
-- @include batch
-- @include digits
-- @include failure
-- @include place
-- @include promote_due

local function emit_waiting(queue, id)
  try('XADD', queue.events, '*', 'event', 'waiting', 'jobId', id, 'prev', 'active')
end

local function count_attempt(key, job)
  call('HSET', key, 'atm', digits((whole(job[2]) or 0) + 1))
end

local function retry_now(batch, id, key, job, reason, rule_json, usage)
  local queue = batch.queue
  local rule = cjson.decode(rule_json)
  if not batch.has_promoted then
    batch.has_promoted = true
    promote_due(queue, batch.now)
  end
  write_failure(key, reason, rule, usage)
  if not leave_active(batch, id, -1) then
    return -3
  end
  place_waiting(queue, id, priority_of(call('HGET', key, 'priority')), rule.lifo)
  count_attempt(key, job)
  batch.has_waiting = true
  emit_waiting(queue, id)
  return 0
end

local function delay_job(batch, id, key, delay)
  local queue = batch.queue
  local due_ms = batch.now + delay
  place_delayed(queue, id, due_ms)
  call('HSET', key, 'delay', digits(delay))
  try('XADD', queue.events, '*', 'event', 'delayed', 'jobId', id, 'delay', due_ms)
  batch.has_delayed = true
end

local function retry_later(batch, id, key, job, reason, rule_json, usage)
  local queue = batch.queue
  local rule = cjson.decode(rule_json)
  write_failure(key, reason, rule, usage)
  if not leave_active(batch, id, -1) then
    return -3
  end
  delay_job(batch, id, key, rule.delay)
  count_attempt(key, job)
  return 0
end

local function hand_back(batch, id, key, job, facts, was_started)
  local queue = batch.queue
  if not leave_active(batch, id, 1) then
    return 0
  end
  place_in_front(queue, id, priority_of(call('HGET', key, 'priority')))
  if was_started ~= '1' then
    local started = math.max((whole(job[1]) or 0) - 1, 0)
    call('HSET', key, 'ats', digits(started))
    -- Else it was begun before this claim: claimed.lua would take it for retried by hand.
    if started == 0 then
      call('HDEL', key, 'processedOn', 'pb')
    end
  end
  if facts ~= '' then
    call('HSET', key, unpack(cjson.decode(facts)))
  end
  batch.has_waiting = true
  emit_waiting(queue, id)
  return 0
end
