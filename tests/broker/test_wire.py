"""Commands as bytes and bytes as replies, with hiredis and without."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxq.broker.connect.resp import (
    INCOMPLETE,
    PlainReplyReader,
    ReplyReader,
    pack,
    packer,
    reply_reader,
)

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


# ── replies ─────────────────────────────────────────────────────────────────


class Refused(Exception):
    """An error reply, the same when its text is."""

    def __eq__(self, other: object) -> bool:
        """Compare the texts."""
        return isinstance(other, Refused) and self.args == other.args

    __hash__ = None  # type: ignore[assignment]  # nobody asks


def wire_of(reply: Any) -> bytes:
    """Return a reply as Redis would send it."""
    match reply:
        case None:
            return b"$-1\r\n"
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case int():
            return b":%d\r\n" % reply
        case Refused():
            return b"-%b\r\n" % str(reply).encode()
        case _:
            return b"*%d\r\n" % len(reply) + b"".join(map(wire_of, reply))


def read_in_pieces(reader: ReplyReader, wire: bytes, size: int) -> list[Any]:
    """Return the replies of bytes that come by ``size`` at a time."""
    found = []
    for begin in range(0, len(wire), size):
        reader.feed(wire[begin : begin + size])
        while (reply := reader.gets()) is not INCOMPLETE:
            found.append(reply)
    return found


LINES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=40)
REPLIES = st.recursive(
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.binary(max_size=300)
    | st.builds(Refused, LINES),
    lambda replies: st.lists(replies, max_size=5),
    max_leaves=20,
)


@given(replies=st.lists(REPLIES, max_size=5), size=st.integers(1, 400))
def test_without_hiredis_the_replies_are_the_same(replies: list[Any], size: int) -> None:
    """However the network has cut them."""
    wire = b"".join(map(wire_of, replies))
    plain, quick = PlainReplyReader(Refused), reply_reader(Refused)
    assert read_in_pieces(plain, wire, size) == replies == read_in_pieces(quick, wire, size)
    assert not plain.has_data()
    assert not quick.has_data()


@given(replies=st.lists(REPLIES, min_size=1, max_size=3), data=st.data())
def test_what_is_cut_short_is_not_yet_a_reply(replies: list[Any], data: st.DataObject) -> None:
    """And whoever asks whether something is left hears so (hiredis tells only of lists)."""
    wire = b"".join(map(wire_of, replies))
    wire = wire[: data.draw(st.integers(1, len(wire) - 1))]
    plain, quick = PlainReplyReader(Refused), reply_reader(Refused)
    whole = read_in_pieces(plain, wire, 64)
    assert whole == read_in_pieces(quick, wire, 64) == replies[: len(whole)]
    assert plain.has_data() is (b"".join(map(wire_of, whole)) != wire)


NONSENSE = [
    b"HTTP/1.1 400 Bad Request\r\n",
    b"$x\r\n",
    b":1.5\r\n",
    b"$-2\r\n",
    b"*-7\r\n",
    b"$3\r\nabcde\r\n",
    b"$99999999999999999999\r\n",
    b"x" * (1 << 17),
]


@pytest.mark.parametrize("wire", NONSENSE)
def test_what_is_no_reply_is_refused(wire: bytes) -> None:
    """A proxy or another program may answer, and no more memory than it sends is taken for it."""
    for reader in (PlainReplyReader(Refused), reply_reader(Refused)):
        with pytest.raises(ValueError):  # noqa: PT011 - each reader has its own words
            read_in_pieces(reader, wire, 4096)


def test_lists_in_lists_are_bounded() -> None:
    """Without hiredis each takes a generator, and Python's stack is short."""
    with pytest.raises(ValueError, match="no valid reply"):
        read_in_pieces(PlainReplyReader(Refused), b"*1\r\n" * 200, 4096)


_DRAIN = """
import asyncio, sys
sys.modules["hiredis"] = None
from sandboxq.broker.connect.broker import Broker
from sandboxq.queue.queue import Queue

async def main():
    async with Queue("plain", url=sys.argv[1]) as queue:
        job = await queue.add("job", {"x": "y" * 300_000})
        print((await queue.get_job(job.id)).data["x"] == "y" * 300_000)
        await queue.obliterate(force=True)

asyncio.run(main())
"""


def test_a_queue_works_without_hiredis(server_url: str) -> None:
    """A free-threaded interpreter has none."""
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", _DRAIN, server_url],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == "True"
