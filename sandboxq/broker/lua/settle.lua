-- Settle up to 200 attempts of one queue (protocol.md 3.8 to 3.16).
--
-- KEYS[1]  base, `<prefix>:<queue>:`; all keys of the queue are built from it
-- ARGV     now (ms), data points of metrics to keep (0: none), '1' to settle without a lock too where
--          that has run out while nobody took the job from active, else '0'; the key and the entry of
--          the mark to leave, see mark.lua; then runs of attempts that end alike, of each run:
--            kind   c complete, C complete a plain job (see finish.lua), f fail, r retry now,
--                   d retry later, h hand back, p postpone, w await children,
--                   l limit the rate of the queue
--            token  that must hold the jobs' locks; '0' asks for no lock
--            rule   c C: see retention.lua, and after a line break what `sq:result` is to be, see
--                   binary.lua; f r d: JSON, see failure.lua; h: '1' when it had begun;
--                   p l: ms
--            ats    attempts started as the claim has told: where the lock is gone, that of a later
--                   claim is not settled by an earlier one; '' asks nothing
--            n      how many attempts follow; three for each:
--              id     of the job
--              text   c C: the value, JSON; f r d: the failed reason; h: '' or sq: fields to write,
--                     JSON; else: ''
--              usage  c C f r d: what the attempt has used, for `sq:usage`; '': not known
-- Returns  one integer for each attempt: 0, or why nothing was changed: -1 no such job, -2 no lock,
--          -6 lock of another, -4 pending children, -9 failed children, -12 Redis refused a command (the
--          job stays active, and keeps its lock); or -3 not active, when the lock is gone and what is
--          known of a failure written. Where there is a -12, the error of the first one follows
-- Events   completed, failed, retries-exhausted, waiting, delayed, waiting-children, drained; those of
--          parents and of the jobs that deduplication had put off
-- @include active
-- @include close_batch
-- @include finish
-- @include mark

-- From so many on it is cheaper to take attempts out of active together.
local MANY = 4

local base = KEYS[1]
local now, metrics_points, retakes = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local mark_key, mark_entry, FIRST = ARGV[4], ARGV[5], 6
local queue = open_queue(base)
local batch = new_batch(queue, now)

-- What becomes of a job that is not plain, or does not complete, by kind.
local function all_transitions()
  -- @include ends
  -- @include moves
  -- @include retry
  return {
    c = complete,
    f = fail,
    r = retry_now,
    d = retry_later,
    h = hand_back,
    p = postpone,
    w = await_children,
    l = limit_rate,
  }
end

local transitions

local ARGV, last = ARGV, #ARGV
local keys, lock_keys, children_keys = {}, {}, {}
-- Of each attempt, where in ARGV it is, and where the run is that it belongs to.
local rows, runs = {}, {}
local attempts, with_children, has_plain = 0, 0, false
local at = FIRST
while at < last do
  local kind, past = ARGV[at], at + 5 + 3 * ARGV[at + 4]
  has_plain = has_plain or kind == 'C'
  for row = at + 5, past - 1, 3 do
    local key = base .. ARGV[row]
    attempts = attempts + 1
    keys[attempts] = key
    rows[attempts], runs[attempts] = row, at
    lock_keys[attempts] = key .. ':lock'
    if kind == 'C' or kind == 'c' then
      children_keys[with_children + 1] = key .. ':dependencies'
      children_keys[with_children + 2] = key .. ':unsuccessful'
      with_children = with_children + 2
    end
  end
  at = past
end
local locks = call('MGET', unpack(lock_keys))
if with_children > 0 then
  batch.has_children = call('EXISTS', unpack(children_keys)) > 0
end
-- What nobody has removed meanwhile is as its claim has told; that is asked of all at once.
local are_as_claimed = has_plain and call('EXISTS', unpack(keys)) == attempts
-- For want of memory Redis refuses a script's first write, not later ones; some of the endings count on
-- that, but whoever completes a job always began by taking it out of active.
if with_children > 0 and attempts >= MANY then
  take_oldest(batch, attempts)
end

local function refusal(kind, id, key, job, lock, token, started)
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
  if not lock and retakes and (started == '' or job[1] == started) and is_active(batch, id) then
    return 0
  end
  return lock and -6 or -2
end

local codes, was_settled, current = {}, {}, 0
local is_all_settled = true
local unlocked_keys, unlocked_ids, unlocked = batch.unlocked_keys, batch.unlocked_ids, 0

local function note_settled(i, id, token)
  was_settled[id] = true
  if token ~= '0' then
    unlocked = unlocked + 1
    unlocked_keys[unlocked] = lock_keys[i]
    unlocked_ids[unlocked] = id
  end
end

local function settle_one(i, kind, token, started, id, text, rule, usage)
  local key = keys[i]
  local job = call('HMGET', key, 'ats', 'atm', 'parentKey', 'deid')
  local code = refusal(kind, id, key, job, not was_settled[id] and locks[i], token, started)
  if code == 0 then
    transitions = transitions or all_transitions()
    code = transitions[kind](batch, id, key, job, text, rule, usage)
    note_settled(i, id, token)
  end
  return code
end

local function settle_plain(i, token, started, id, text, rule, usage)
  if batch.has_children or not are_as_claimed or was_settled[id] or locks[i] ~= token then
    return settle_one(i, 'c', token, started, id, text, rule, usage)
  end
  local code = complete_plain(batch, id, keys[i], text, rule, usage)
  note_settled(i, id, token)
  return code
end

-- Completes, of the attempts from one on, those of plain jobs that are all kept and were taken out of
-- active: most of all attempts, so in few steps. Returns after how many there is another, or the last one;
-- `current` says which is in hand, should a command fail.
local function complete_on()
  local completed, taken, rule = batch.completed, batch.taken, keep_rule('')
  local events, stamp, scored = queue.events, ARGV[1], completed.scored
  open_outcome(completed)
  if completed.keep ~= rule then
    store_finished(batch, completed)
    completed.keep, scored = rule, completed.scored
  end
  local last_scored = #scored
  while current < attempts do
    local i = current + 1
    local at, row = runs[i], rows[i]
    local id, text, usage = ARGV[row], ARGV[row + 1], ARGV[row + 2]
    if ARGV[at] ~= 'C' or ARGV[at + 2] ~= '' or usage == '' or taken[id] ~= 1 or was_settled[id]
      or locks[i] ~= ARGV[at + 1] then
      return
    end
    current = i
    taken[id] = nil
    batch.left = id
    call('HSET', keys[i], 'returnvalue', text, 'finishedOn', stamp, 'atm', '1', 'sq:usage', usage)
    scored[last_scored + 1], scored[last_scored + 2] = stamp, id
    last_scored = last_scored + 2
    completed.finished = completed.finished + 1
    try('XADD', events, '*', 'event', 'completed', 'jobId', id, 'returnvalue', text, 'prev', 'active')
    codes[i] = 0
    was_settled[id] = true
    unlocked = unlocked + 1
    unlocked_keys[unlocked] = lock_keys[i]
    unlocked_ids[unlocked] = id
  end
end

local function settle_on()
  if are_as_claimed and not batch.has_children then
    complete_on()
  end
  local run, kind, token, rule, started
  while current < attempts do
    local i = current + 1
    current = i
    batch.left = nil
    local at, row = runs[i], rows[i]
    if at ~= run then
      run, kind, token, rule, started = at, ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    end
    local id, text, usage = ARGV[row], ARGV[row + 1], ARGV[row + 2]
    if kind == 'C' then
      codes[i] = settle_plain(i, token, started, id, text, rule, usage)
    else
      codes[i] = settle_one(i, kind, token, started, id, text, rule, usage)
    end
    if codes[i] ~= 0 then
      is_all_settled = false
    end
  end
end

-- What is wrong with the server, or this user may not do, is wrong with all: the caller is told, keeps
-- them, and tries again. Servers before Redis 7.2 have the last words for what is not permitted.
local function is_of_server(text)
  local words = {
    'OOM ', 'MISCONF ', 'READONLY ', 'NOREPLICAS ', 'MASTERDOWN ', 'CLUSTERDOWN ', 'NOPERM ',
    'ACL failure in script', "The user executing the script can't",
  }
  for _, word in ipairs(words) do
    if string.find(text, word, 1, true) then
      return true
    end
  end
  return false
end

-- Redis undoes nothing when a command fails, say because a key is not of its type. The job in hand has
-- got nowhere then: it stays active. The others go on.
local problem, is_refused
repeat
  local is_done, trouble = pcall(settle_on)
  if not is_done then
    local id = ARGV[rows[current]]
    local text = type(trouble) == 'table' and trouble.err or tostring(trouble)
    if batch.left == id then
      call('LPUSH', queue.active, id)
    end
    is_refused = is_of_server(text)
    is_all_settled = false
    if is_refused then
      problem = text
    else
      codes[current] = -12
      problem = problem or text
    end
  end
until is_done or is_refused
put_back_oldest(batch)
close_batch(batch, metrics_points)
-- Nothing stands for all zeros; of a call that was refused there are the codes of those before.
local told = is_all_settled and '' or table.concat(codes, ',')
leave_mark(mark_key, mark_entry, is_refused and told .. '!' or told)
if is_refused then
  return redis.error_reply(problem)
end
codes[attempts + 1] = problem
return codes
