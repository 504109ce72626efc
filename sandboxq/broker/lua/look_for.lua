-- Look for texts in some jobs of a state, the newest first.
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV[1]  name of the list or set
-- ARGV[2]  how many of the newest to leave out
-- ARGV[3]  how many to look at
-- ARGV[4]  bytes: fields that are longer are not looked into
-- ARGV[5]  number of conditions, then for each a field (`id`, a field of the hash, or `*`: each of some) and
--          a text in lower case that it must contain, '' for any
-- then     number of fields, for each its name and how many bytes of it
-- Returns  how many were looked at, how many of them not wholly: a field was too long, or the answer would be; of each that was found
--          its id and its fields, see peek.lua
-- @include cut

local base = KEYS[1]
local key, start, count, most = base .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local wanted, first = {}, 6
for i = 1, tonumber(ARGV[5]) do
  wanted[i] = { ARGV[first], ARGV[first + 1] }
  first = first + 2
end
local specs = field_specs(ARGV, first + 1)

-- What a free text is looked for in.
local ANY = { 'name', 'data', 'failedReason', 'returnvalue', 'pb' }
-- In these sets what comes next stands first, and not what is newest.
local FROM_FRONT = { prioritized = true, delayed = true }

local function ids_of()
  local kind = call('TYPE', key).ok
  local last = start + count - 1
  if kind == 'list' then
    return call('LRANGE', key, start, last)
  end
  if kind ~= 'zset' then
    return {}
  end
  return call(FROM_FRONT[ARGV[1]] and 'ZRANGE' or 'ZREVRANGE', key, start, last)
end

-- Bytes that one call looks into: Redis copies them, and answers nobody meanwhile.
local MOST_LOOKED_INTO = 33554432
local too_long
local looked_into = 0

local function is_in(job_key, field, text)
  local size = try('HSTRLEN', job_key, field)
  if type(size) ~= 'number' or size == 0 then
    return false
  end
  if size > most or looked_into > MOST_LOOKED_INTO then
    too_long = true
    return false
  end
  looked_into = looked_into + size
  return string.find(string.lower(call('HGET', job_key, field)), text, 1, true) ~= nil
end

local function has(id, field, text)
  if text == '' then
    return true
  end
  if field == 'id' then
    return string.find(string.lower(id), text, 1, true) ~= nil
  end
  if field ~= '*' then
    return is_in(base .. id, field, text)
  end
  if string.find(string.lower(id), text, 1, true) then
    return true
  end
  for i = 1, #ANY do
    if is_in(base .. id, ANY[i], text) then
      return true
    end
  end
  return false
end

local function fits(id)
  for i = 1, #wanted do
    if not has(id, wanted[i][1], wanted[i][2]) then
      return false
    end
  end
  return true
end

-- Bytes of an answer: Redis holds it whole.
local MOST_ANSWERED = 4194304

local ids, left_out, found, answered = ids_of(), 0, {}, 0
for i = 1, #ids do
  too_long = answered > MOST_ANSWERED
  if not too_long and fits(ids[i]) then
    local parts = cut_fields(base .. ids[i], specs)
    if #parts > 0 then
      found[#found + 1] = { ids[i], parts }
    end
    for j = 1, #parts, 2 do
      answered = answered + #parts[j]
    end
  elseif too_long then
    left_out = left_out + 1
  end
end
return { #ids, left_out, found }
