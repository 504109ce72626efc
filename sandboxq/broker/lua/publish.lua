-- Add an event of the user's own to the stream (protocol.md 4, custom).
--
-- KEYS[1]  base, `<prefix>:<queue>:`
-- ARGV     event name, how many events about to keep ('': what the queue keeps), then fields: name, text, …
-- Returns  the entry's id
-- @include queue

local base = KEYS[1]
local name, max_len = ARGV[1], ARGV[2]

local queue = open_queue(base)
if max_len == '' then
  max_len = max_events(queue)
end
return call('XADD', queue.events, 'MAXLEN', '~', max_len, '*', 'event', name, unpack(ARGV, 3))
