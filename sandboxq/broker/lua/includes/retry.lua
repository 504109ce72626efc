-- Attempts after which the job goes on (bullmq-wire.md 3.13, 3.14, 3.16).
--   retry_now(batch, id, key, job, reason, rule, usage)     rule: JSON, see failure.lua; + lifo
--   retry_later(batch, id, key, job, reason, rule, usage)   rule: JSON, see failure.lua; + delay (ms)
--   hand_back(batch, id, key, job, facts, was_started)  no attempt counts; '1' when it had begun
--                                                    and it goes in front of all others; facts:
--                                                    '' or sq: fields (name, value, …), JSON
--   delay_job(batch, id, key, delay)                 into delayed for so many ms
-- job: ats, atm. → 0 or -3, not active
-- @include active
-- @include batch
-- @include failure
-- @include promote_due

local function emit_waiting(queue, id)
  call('XADD', queue.events, '*', 'event', 'waiting', 'jobId', id, 'prev', 'active')
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
  call('HINCRBY', key, 'atm', 1)
  place_waiting(queue, id, tonumber(call('HGET', key, 'priority')) or 0, rule.lifo)
  batch.has_waiting = true
  emit_waiting(queue, id)
  return 0
end

local function delay_job(batch, id, key, delay)
  local queue = batch.queue
  local due_ms = batch.now + delay
  call('HSET', key, 'delay', delay)
  place_delayed(queue, id, due_ms)
  call('XADD', queue.events, '*', 'event', 'delayed', 'jobId', id, 'delay', due_ms)
  batch.has_delayed = true
end

local function retry_later(batch, id, key, job, reason, rule_json, usage)
  local queue = batch.queue
  local rule = cjson.decode(rule_json)
  write_failure(key, reason, rule, usage)
  if not leave_active(batch, id, -1) then
    return -3
  end
  call('HINCRBY', key, 'atm', 1)
  delay_job(batch, id, key, rule.delay)
  return 0
end

local function hand_back(batch, id, key, job, facts, was_started)
  local queue = batch.queue
  if not leave_active(batch, id, 1) then
    return 0
  end
  if was_started ~= '1' then
    local started = math.max((tonumber(job[1]) or 0) - 1, 0)
    call('HSET', key, 'ats', started)
    -- Else it was begun before this claim: claimed.lua would take it for retried by hand.
    if started == 0 then
      call('HDEL', key, 'processedOn', 'pb')
    end
  end
  if facts ~= '' then
    call('HSET', key, unpack(cjson.decode(facts)))
  end
  place_in_front(queue, id, tonumber(call('HGET', key, 'priority')) or 0)
  batch.has_waiting = true
  emit_waiting(queue, id)
  return 0
end
