-- call: redis.call as a local, which Lua finds faster than a field of a global.
local call = redis.call
