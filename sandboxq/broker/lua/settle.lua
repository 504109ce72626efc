-- Settle up to 100 attempts of one queue (bullmq-wire.md 3.8 to 3.16).
--
-- KEYS[1]  base, `<prefix>:<queue>:`; all keys of the queue are built from it
-- ARGV     now (ms), data points of metrics to keep (0: none), '1' to settle without a lock too where
--          that has run out while nobody took the job from active, else '0'; then six for each attempt:
--            kind   c complete, f fail, r retry now, d retry later, h hand back, p postpone,
--                   w await children, l limit the rate of the queue
--            id     of the job
--            token  that must hold the job's lock; '0' asks for no lock
--            text   c: the value, JSON; f r d: the failed reason; h: '' or sq: fields to write, JSON;
--                   else: ''
--            rule   c: see retention.lua, and after a line break what `sq:result` is to be, see
--                   binary.lua; f r d: JSON, see failure.lua; h: '1' when it had begun;
--                   p l: ms
--            usage  c f r d: what the attempt has used, for `sq:usage`; '': not known
-- Returns  one integer for each attempt: 0, or why nothing was changed: -1 no such job, -2 no lock,
--          -6 lock of another, -4 pending children, -9 failed children; or -3 not active, when the
--          lock is gone and what is known of a failure written
-- Events   completed, failed, retries-exhausted, waiting, delayed, waiting-children, drained; those of
--          parents and of the jobs that deduplication had put off
-- @include close_batch
-- @include finish
-- @include moves
-- @include retry

local base = KEYS[1]
local now, metrics_points, retakes = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local queue = open_queue(base)
local batch = new_batch(queue, now)
local transitions = {
  c = complete,
  f = fail,
  r = retry_now,
  d = retry_later,
  h = hand_back,
  p = postpone,
  w = await_children,
  l = limit_rate,
}

local lock_keys, children_keys = {}, {}
for at = 4, #ARGV, 6 do
  local key = base .. ARGV[at + 1]
  lock_keys[#lock_keys + 1] = key .. ':lock'
  if ARGV[at] == 'c' then
    children_keys[#children_keys + 1] = key .. ':dependencies'
    children_keys[#children_keys + 1] = key .. ':unsuccessful'
  end
end
local locks = call('MGET', unpack(lock_keys))
if #children_keys > 0 then
  batch.has_children = call('EXISTS', unpack(children_keys)) > 0
end

local function refusal(kind, id, key, job, lock, token)
  if not job[1] and call('EXISTS', key) == 0 then
    return -1
  end
  if batch.has_children and kind == 'c' then
    if call('EXISTS', key .. ':dependencies') == 1 then
      return -4
    end
    if call('EXISTS', key .. ':unsuccessful') == 1 then
      return -9
    end
  end
  if kind == 'w' and call('EXISTS', key .. ':unsuccessful') == 1 then
    return -9
  end
  if lock == token or token == '0' then
    return 0
  end
  if not lock and retakes and call('LPOS', queue.active, id) then
    return 0
  end
  return lock and -6 or -2
end

local codes, was_settled, current_id = {}, {}, nil

local function settle_all()
  for i = 1, #lock_keys do
    local at = 6 * i - 2
    local kind, id, token = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local key = base .. id
    local job = call('HMGET', key, 'ats', 'atm', 'parentKey', 'deid')
    local code = refusal(kind, id, key, job, not was_settled[id] and locks[i], token)
    if code == 0 then
      current_id = id
      code = transitions[kind](batch, id, key, job, ARGV[at + 3], ARGV[at + 4], ARGV[at + 5])
      was_settled[id] = true
      if token ~= '0' then
        batch.unlocked_keys[#batch.unlocked_keys + 1] = lock_keys[i]
        batch.unlocked_ids[#batch.unlocked_ids + 1] = id
      end
    end
    codes[i] = code
  end
end

-- Redis undoes nothing when a script fails, say because a key is not of its type. The jobs before
-- arrive where they were going; the one that failed stays active, and keeps its lock.
local is_done, problem = pcall(settle_all)
if not is_done and current_id and not call('LPOS', queue.active, current_id) then
  call('LPUSH', queue.active, current_id)
end
close_batch(batch, metrics_points)
if not is_done then
  return type(problem) == 'table' and problem or redis.error_reply(tostring(problem))
end
return codes
