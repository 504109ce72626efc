"""The only code that talks to Redis or Valkey."""

from sandboxq.broker.wire import keep_hiredis_out

keep_hiredis_out()
