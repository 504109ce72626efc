"""The only code that talks to Redis or Valkey."""

from sandboxq.broker.connect.plain_connection import hold_package
from sandboxq.broker.connect.resp import keep_hiredis_out

keep_hiredis_out()
hold_package()
