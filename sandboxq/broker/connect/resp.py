"""hiredis where it may be: it parses and packs four times faster, but needs the GIL.

On a free-threaded interpreter its import would switch the GIL on for the whole process
(redis/hiredis-py#229), without a word of redis-py, which imports it wherever it is installed. This
module is therefore imported before redis.
"""

from __future__ import annotations

import sys
import sysconfig
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Argument = bytes | str | int | float
    Pack = Callable[[Sequence[Argument]], bytes]


def keep_hiredis_out() -> None:
    """Let every later import of hiredis fail on a free-threaded build; elsewhere do nothing."""
    if sysconfig.get_config_var("Py_GIL_DISABLED") and "hiredis" not in sys.modules:
        sys.modules["hiredis"] = None  # type: ignore[assignment]  # so importlib knows what is not there


def packer() -> Pack:
    """Return what turns a command into bytes for the wire."""
    try:
        import hiredis  # noqa: PLC0415 - it is not everywhere
    except ImportError:
        return pack
    return lambda arguments: hiredis.pack_command(tuple(arguments))  # type: ignore[arg-type]  # its stub


def pack(arguments: Sequence[Argument]) -> bytes:
    """Return one command as it goes over the wire: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        raw = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)
