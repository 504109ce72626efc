-- Deduplication keys `de:<id>` and the stored next job `dn:<id>` (protocol.md 3.5, 3.11.3).
--   release_deduplication(queue, id, deid, now)  when a job finishes; queues the stored next job
--   forget_deduplication(queue, id, deid)        when a job is removed
--   set_deduplication(key, id, rule)             rule: the `de` option; a ttl is ignored with keepLastIfActive
-- @include enqueue

local function set_deduplication(key, id, rule)
  local ttl = whole(rule.ttl) or 0
  if ttl > 0 and not rule.keepLastIfActive then
    call('SET', key, id, 'PX', ttl)
  else
    call('SET', key, id)
  end
end

local function enqueue_stored_job(queue, deid, next_key, now)
  local stored = fields_of(next_key, 'name', 'data', 'opts', 'jid', 'pk', 'pd', 'pdk', 'rjk')
  if not stored[1] then
    -- Nobody has stored a job there.
    call('DEL', next_key)
    return
  end
  local id = stored[4] or string.format('%.0f', call('INCR', queue.base .. 'id'))
  if stored[4] then
    skip_id(queue)
  end
  if call('EXISTS', queue.base .. id) == 1 then
    -- Somebody has added a job with that id of its own meanwhile: a second place in the queue would
    -- have it run twice.
    call('DEL', next_key)
    try('XADD', queue.events, '*', 'event', 'duplicated', 'jobId', id)
    return
  end
  local is_json, opts = pcall(cjson.decode, stored[3] or '{}')
  if not is_json or type(opts) ~= 'table' then
    opts = {}
  end
  local job = {
    name = stored[1], data = stored[2] or '{}', opts = stored[3] or '{}', timestamp = now,
    delay = whole(opts.delay) or 0, priority = priority_of(opts.priority),
    is_lifo = opts.lifo == true,
    parent_key = stored[5], parent = stored[6], rjk = stored[8], deid = deid,
  }
  -- Where it has no place, it stays stored for the next job that ends.
  check_places(queue, job)
  call('DEL', next_key)
  set_deduplication(queue.base .. 'de:' .. deid, id, type(opts.de) == 'table' and opts.de or {})
  store_job(queue, id, job)
  enqueue(queue, id, job)
  if stored[7] then
    try('SADD', stored[7], queue.base .. id)
  end
end

local function release_deduplication(queue, id, deid, now)
  local key = queue.base .. 'de:' .. deid
  local ttl = call('PTTL', key)
  if ttl == 0 or (ttl == -1 and try('GET', key) == id) then
    call('DEL', key)
  end
  local next_key = queue.base .. 'dn:' .. deid
  if call('EXISTS', next_key) == 1 then
    enqueue_stored_job(queue, deid, next_key, now)
  end
end

local function forget_deduplication(queue, id, deid)
  local key = queue.base .. 'de:' .. deid
  if try('GET', key) == id then
    call('DEL', key, queue.base .. 'dn:' .. deid)
  end
end
