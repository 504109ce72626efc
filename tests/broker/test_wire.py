"""Commands as bytes, with hiredis and without."""

from __future__ import annotations

import subprocess
import sys
import sysconfig

import pytest

from sandboxq.broker.connect.resp import pack, packer

COMMANDS = [
    ("PING",),
    (b"SET", "clé", 17, 2.5),
    ("EVALSHA", "a" * 40, 1, b"\x00\xff\r\n", ""),
    ("ZADD", "key", 1784851200123.0, 10**15),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_without_hiredis_the_bytes_are_the_same(command: tuple[bytes | str | float, ...]) -> None:
    """A queue must not depend on the interpreter of those who use it."""
    assert pack(command) == packer()(command)


_LOOK = """
import sys, sysconfig
import sandboxq.broker.connect.broker
is_free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
assert not (is_free and sys._is_gil_enabled()), "the GIL is on"
print(sys.modules.get("hiredis") is None)
"""


def test_the_broker_leaves_the_gil_as_it_is() -> None:
    """On a free-threaded interpreter hiredis would switch it on, installed as it may be."""
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LOOK], capture_output=True, text=True, check=True
    )
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert found.stdout.strip() == "True"
