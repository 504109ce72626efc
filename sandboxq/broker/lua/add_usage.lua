-- Add to what the jobs of one queue have used.
--
-- KEYS[1]  the hash of totals, `<prefix>::sandboxq:usage:<queue>`
-- ARGV     attempts, crashes, µs in all, µs of CPU in own code, µs of CPU in the kernel, highest
--          peak of memory in bytes; the key and the entry of the mark to leave, see mark.lua: what has
--          left it already is not added again
-- Returns  0
-- Events   none
-- @include mark

local key = KEYS[1]
local mark_key, mark_entry = ARGV[7], ARGV[8]
if call('GET', mark_key) == mark_entry .. ':;' then
  return 0
end
-- What fails here has written nothing. Behind it a field that is no number, or at its end, is passed over:
-- what was added in part would be added again.
call('HINCRBY', key, 'attempts', ARGV[1])
local names = { 'crashes', 'wall', 'user', 'system' }
for i = 1, #names do
  try('HINCRBY', key, names[i], ARGV[i + 1])
end
local peak = tonumber(ARGV[6])
if peak > (tonumber(call('HGET', key, 'peak')) or 0) then
  call('HSET', key, 'peak', ARGV[6])
end
leave_mark(mark_key, mark_entry, '')
return 0
