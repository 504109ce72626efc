"""A reply that is no answer to its command counts as lost, before anybody reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ResponseError

from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.connect.replies import check_number, check_replies
from sandboxq.broker.connect.script import load
from sandboxq.errors import BrokerUnavailable
from tests.broker.servers import StoppableServer
from tests.chaos.proxy import Proxy
from tests.conftest import run_async

if TYPE_CHECKING:
    from pathlib import Path

_ROW = [b"1", b"name", b"{}", b"{}", b"1", b"0", b"0"]
_LONG_ROW = [*_ROW, *[None] * 14]
_RUN: list[Any] = [0, b"name", b"{}", b"0", b"0", b"1", b"{}", b"1"]
_CLAIM = ("EVALSHA", load("claim").sha)
_SETTLE = ("EVALSHA", load("settle").sha)


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (_CLAIM, [[_ROW, _LONG_ROW], 0, 0, 0, b"1"]),
        (_CLAIM, [[_RUN, [*_RUN, b"2", b"{}", b"0"], _LONG_ROW], 0, 0, 0, b"1"]),
        (_CLAIM, ResponseError("ERR no")),
        (_SETTLE, [0, -3]),
        (("MGET", "a", "b"), [None, b"x"]),
        (("BZPOPMIN", "a", "1"), None),
        (("XREAD", "STREAMS", "a", "0"), [[b"a", [[b"1-0", [b"event", b"added"]]]]]),
        (("OBJECT", "HELP"), 7),
    ],
)
def test_answers_pass(command: tuple[str, ...], reply: Any) -> None:
    """Errors are answers, and what nobody knows the shape of is let through."""
    check_replies([command], [reply])


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (_CLAIM, [[_ROW], 0, [], 0, b"1"]),
        (_CLAIM, [[[*_ROW[:3], None, *_ROW[4:]]], 0, 0, 0, b"1"]),
        (_CLAIM, [[[None, *_LONG_ROW[1:]]], 0, 0, 0, b"1"]),
        (_CLAIM, [[[*_ROW[:3]]], 0, 0, 0, b"1"]),
        (_CLAIM, None),
        (_CLAIM, [[_ROW], 0, 0, 0]),
        (_CLAIM, [[_RUN[:5]], 0, 0, 0, b"1"]),
        (_CLAIM, [[_RUN[:7]], 0, 0, 0, b"1"]),
        (_CLAIM, [[[1, *_RUN[1:]]], 0, 0, 0, b"1"]),
        (_CLAIM, [[[*_RUN[:5], None, *_RUN[6:]]], 0, 0, 0, b"1"]),
        (_CLAIM, [[[]], 0, 0, 0, b"1"]),
        (_CLAIM, [[_ROW], 0, 0, 0, b"now"]),
        (_CLAIM, [[_ROW], 0, 0, 0, b"9" * 30]),
        (_CLAIM, [[[*_LONG_ROW, None]], 0, 0, 0, b"1"]),
        (_SETTLE, [0, b"0"]),
        (("MGET", "a", "b"), [None]),
        (("BZPOPMIN", "a", "1"), [b"a"]),
        (("XREAD", "STREAMS", "a", "0"), [[b"a", [[b"1-0", [b"event"]]]]]),
        (("TIME",), [b"1", b"x"]),
    ],
)
def test_what_is_no_answer_counts_as_lost(command: tuple[str, ...], reply: Any) -> None:
    """Who waits for Redis to come back tries again; nobody has to know of broken replies."""
    with pytest.raises(BrokerUnavailable, match="does not fit"):
        check_replies([command], [reply])


def test_an_answer_for_each_row() -> None:
    """Fewer or more codes than rows are of other rows, nobody knows which."""
    check_number("settle", [[0] * 100, [0]], 101, 100)
    for replies in ([[0] * 99, [0]], [[0] * 100, []], [[0] * 100, [0, 0]]):
        with pytest.raises(BrokerUnavailable, match="does not fit"):
            check_number("settle", replies, 101, 100)


def test_over_a_connection(tmp_path: Path) -> None:
    """The way of every exchange: a number where texts were asked for."""

    async def main(url: str) -> None:
        broker = await Broker.connect(url)
        try:
            with pytest.raises(BrokerUnavailable, match="LRANGE"):
                await broker.command("LRANGE", "none", 0, -1)
            assert await broker.command("LLEN", "none") == 0
        finally:
            await broker.close()

    def rewriter() -> Any:
        return lambda chunk: chunk.replace(b"*0\r\n", b":7\r\n")

    with StoppableServer(tmp_path) as server, Proxy(server.port, rewriter=rewriter) as proxy:
        run_async(main(proxy.url))
