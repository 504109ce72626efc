-- Tell which part of a queue's event stream is still there, without its entries, which may be large.
--
-- KEYS[1]  the stream
-- Returns  { length, first id or '', last id ever given, entries ever added (-1 before Redis 7) }
-- @include call

local stream = KEYS[1]
if call('EXISTS', stream) == 0 then
  return { 0, '', '0-0', 0 }
end
local flat, known = call('XINFO', 'STREAM', stream), {}
for at = 1, #flat, 2 do
  known[flat[at]] = flat[at + 1]
end
local first = known['first-entry']
return {
  known['length'],
  first and first[1] or '',
  known['last-generated-id'],
  known['entries-added'] or -1,
}
