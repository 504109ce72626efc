-- Which finished jobs stay (protocol.md 3.10).
--   keep_rule(text)                text: `<count> <age ms> <limit>`, -1 where there is none; '' keeps all.
--                                  The same text gives the same table, so rules compare by identity
--   store_finished(batch, outcome) put the collected jobs into their set and apply outcome.keep
-- What becomes of one old job keeps no other from going.
-- @include numbers
-- @include queue

-- One call removes no more than this by count; the rest goes with the jobs that finish later.
local MAX_TRIMMED = 1000
-- And by age, whatever limit a job sets: more would keep Redis from everybody else.
local MOST_OLD = 10000

local keep_rules = { [''] = { count = -1, age_ms = -1 } }

local function keep_rule(text)
  local rule = keep_rules[text]
  if not rule then
    local count, age_ms, limit = string.match(text, '^(%S+) (%S+) (%S+)$')
    rule = { count = whole(count, -1) or -1, age_ms = whole(age_ms, -1) or -1, limit = whole(limit) or 0 }
    keep_rules[text] = rule
  end
  return rule
end

-- Removes what is older than keep says, and what is beyond its count.
local function remove_more(batch, outcome, keep)
  -- @include job_keys
  -- @include parents
  local function remove_finished(ids)
    local keys = {}
    for i = 1, #ids do
      local key = batch.queue.base .. ids[i]
      keys[i] = key
      local child = fields_of(key, 'parentKey', 'parent')
      if child[1] then
        pcall(unlink_softly, key, parent_of(child[1], child[2]))
      end
    end
    delete_jobs(keys)
  end

  local function remove_old()
    local newest = batch.now - keep.age_ms
    -- The limit is meant for each finishing job; many finish in one call.
    local limit = math.min(keep.limit * #outcome.scored / 2, math.max(keep.limit, MAX_TRIMMED), MOST_OLD)
    local ids = call('ZREVRANGEBYSCORE', outcome.set, newest, '-inf', 'LIMIT', 0, limit)
    if #ids > 0 then
      remove_finished(ids)
      in_chunks('ZREM', outcome.set, ids)
    end
  end

  local function remove_beyond_count()
    local beyond = call('ZCARD', outcome.set) - keep.count
    if beyond > 0 then
      local ids = call('ZRANGE', outcome.set, 0, math.min(beyond, MAX_TRIMMED) - 1)
      remove_finished(ids)
      in_chunks('ZREM', outcome.set, ids)
    end
  end

  if keep.age_ms >= 0 then
    pcall(remove_old)
  end
  if keep.count > 0 then
    pcall(remove_beyond_count)
  end
end

local function store_finished(batch, outcome)
  if #outcome.scored > 0 then
    call('ZADD', outcome.set, unpack(outcome.scored))
    local keep = outcome.keep
    if keep.age_ms >= 0 or keep.count > 0 then
      remove_more(batch, outcome, keep)
    end
    outcome.scored = {}
  end
end
