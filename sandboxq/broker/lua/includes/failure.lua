-- What is known of a failed attempt (protocol.md 2.1).
--   write_failure(key, reason, rule, usage)     usage: of this attempt, nil or '' when not known
--   forget_facts(key)                  sq: fields, of an attempt that no longer counts
-- rule: stack (text), limit (stack traces to keep; absent: all), facts (sq: fields: name, value, …),
-- and what the transition itself needs.
-- @include call

-- Of more, the oldest go: Lua unpacks no list of any length.
local MOST_TRACES = 1000

local function stack_traces(stored, rule)
  local is_json, traces = pcall(cjson.decode, stored or '')
  if not is_json or type(traces) ~= 'table' then
    traces = {}
  end
  for i = #traces, 1, -1 do
    -- What is no text may be what cannot be written again: a number that is none.
    if type(traces[i]) ~= 'string' then
      table.remove(traces, i)
    end
  end
  traces = { unpack(traces, math.max(#traces - MOST_TRACES, 0) + 1) }
  if rule.stack ~= '' then
    traces[#traces + 1] = rule.stack
  end
  local limit = math.max(tonumber(rule.limit) or #traces, 0)
  while #traces > limit do
    table.remove(traces, 1)
  end
  -- An empty table would be encoded as an object.
  return #traces > 0 and cjson.encode(traces) or '[]'
end

-- What belongs to data and value, and what is counted over all attempts.
local PAYLOADS = { ['sq:binary'] = true, ['sq:result'] = true }
local CRASHES = { ['sq:crashes'] = true, ['sq:history'] = true, ['sq:beside'] = true }

local function forget(key, also_kept)
  local names = call('HKEYS', key)
  for i = 1, #names do
    local name = names[i]
    if string.sub(name, 1, 3) == 'sq:' and not PAYLOADS[name] and not also_kept[name] then
      call('HDEL', key, name)
    end
  end
end

local function forget_facts(key)
  forget(key, {})
end

local function write_failure(key, reason, rule, usage)
  local stored = call('HMGET', key, 'stacktrace', 'sq:cause')
  if stored[2] then
    -- What was found out about an earlier attempt does not explain this one.
    forget(key, CRASHES)
  end
  call('HSET', key, 'failedReason', reason, 'stacktrace', stack_traces(stored[1], rule))
  if usage and usage ~= '' then
    call('HSET', key, 'sq:usage', usage)
  end
  if #rule.facts > 0 then
    call('HSET', key, unpack(rule.facts))
  end
end
