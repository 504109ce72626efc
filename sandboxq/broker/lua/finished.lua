-- Tell how jobs ended (protocol.md 3.24, isFinished).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     job ids
-- Returns  for each { -1 } no such job, { 0 } not finished, { 1, returnvalue, '', sq:result },
--          { 2, failedReason, sq:cause, '', stacktrace, atm, attemptsMade of BullMQ before 5 }
-- @include fields

local base = KEYS[1]

local completed, failed = base .. 'completed', base .. 'failed'

local function ending_of(id)
  local key = base .. id
  if call('ZSCORE', completed, id) then
    local stored = fields_of(key, 'returnvalue', 'sq:result')
    return { 1, stored[1] or 'null', '', stored[2] or '' }
  end
  if call('ZSCORE', failed, id) then
    local stored = fields_of(key, 'failedReason', 'sq:cause', 'stacktrace', 'atm', 'attemptsMade')
    return {
      2, stored[1] or '', stored[2] or '', '', stored[3] or '', stored[4] or '', stored[5] or '',
    }
  end
  return { call('EXISTS', key) - 1 }
end

local endings = {}
for i = 1, #ARGV do
  endings[i] = ending_of(ARGV[i])
end
return endings
