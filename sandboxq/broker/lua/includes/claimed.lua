-- claimed(key, id): what a worker is given of a job; nil when there is no job. A row begins with id, name,
-- data, opts, timestamp, priority, delay. That is all of a fresh job, whose hash has the six fields of
-- every job and no other: most of these come as nil and the hash itself, name, data, opts, timestamp, delay
-- and priority each behind its name. Else there follow atm, ats, stc, defa, parent, parentKey, progress, rjk,
-- sq:crashes, sq:binary, sq:history, sq:beside, deid, failedReason, false where there is none. A job that has crashed and
-- was let run again by hand, by whomever, has crashed no more.
-- One HGETALL is cheaper than the search for 16 names, of which a fresh job lacks 12.
-- @include call
-- @include digits
-- @include numbers

local places

local function with_history(key, id, stored, count)
  places = places or {
    name = 2, data = 3, opts = 4, timestamp = 5, priority = 6, delay = 7, atm = 8, ats = 9, stc = 10,
    defa = 11, parent = 12, parentKey = 13, progress = 14, rjk = 15, ['sq:crashes'] = 16,
    ['sq:binary'] = 17, ['sq:history'] = 18, ['sq:beside'] = 19,
    deid = 20, failedReason = 21, processedOn = 22, attemptsMade = 23,
  }
  local job = { id, false, false, false, false, false, false, false, false, false, false, false,
    false, false, false, false, false, false, false, false, false }
  for i = 1, count, 2 do
    local place = places[stored[i]]
    if place then
      job[place] = stored[i + 1]
    end
  end
  if not job[2] then
    return nil
  end
  if count == 12 and job[3] and job[4] and job[5] and job[6] and job[7] then
    return { unpack(job, 1, 7) }
  end
  -- A retry by hand, Node's too, takes away when the job was begun; nothing else does.
  if job[16] and not job[22] then
    call('HDEL', key, 'sq:crashes', 'sq:history', 'sq:beside')
    job[16], job[18], job[19] = false, false, false
  end
  -- BullMQ before 5 counted under this name; what was counted since comes on top.
  if job[23] then
    job[8] = digits((whole(job[23]) or 0) + (whole(job[8]) or 0))
  end
  job[22], job[23] = nil, nil
  return job
end

local function claimed(key, id)
  -- A key of another type is no job.
  local stored = try('HGETALL', key)
  local count = #stored
  -- The order in which all of BullMQ's clients write them; a hash that is large has lost it.
  if count == 12 and stored[1] == 'name' and stored[3] == 'data' and stored[5] == 'opts'
    and stored[7] == 'timestamp' and stored[9] == 'delay' and stored[11] == 'priority' then
    return nil, stored
  end
  return with_history(key, id, stored, count)
end
