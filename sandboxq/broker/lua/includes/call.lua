-- call: redis.call as a local, which Lua finds faster than a field of a global.
-- try: the same, but an error comes back as a table with `err`. Redis undoes nothing when a script fails:
-- what may fail after a job has left one place, and is not its next place itself, is tried.
local call, try = redis.call, redis.pcall
