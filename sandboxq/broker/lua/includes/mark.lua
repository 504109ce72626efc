-- leave_mark(key, entry, text): what tells a caller who lost the reply that this call has run, and how.
-- `key` '' leaves none. An entry is `<number of the exchange>.<call in it, from 0>`; the first call of an
-- exchange takes away the marks of the one before. Stored: `<entry>:<text>;` for each call.
-- @include call

-- So long may the connection be gone before the caller looks, in ms.
local MARK_TTL = 600000

local function leave_mark(key, entry, text)
  if key == '' then
    return
  end
  local mark = entry .. ':' .. text .. ';'
  if string.sub(entry, -2) == '.0' then
    call('SET', key, mark, 'PX', MARK_TTL)
  else
    call('APPEND', key, mark)
    call('PEXPIRE', key, MARK_TTL)
  end
end
