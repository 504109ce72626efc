-- server_now(ahead_ms): the time in ms, as text, by a clock that is so far ahead of the server's.
-- For a command that waited in the server: what its sender took for the time is long past.
-- @include call

local function server_now(ahead_ms)
  -- Redis 6 writes after TIME only when it is told to replicate effects; later ones always do.
  if redis.replicate_commands then
    redis.replicate_commands()
  end
  local time = call('TIME')
  local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  return string.format('%.0f', ms + tonumber(ahead_ms))
end
