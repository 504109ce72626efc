"""Without TLS redis-py's package is not imported; what it said of URLs and errors still holds."""

from __future__ import annotations

import subprocess
import sys
from asyncio import StreamReader, StreamWriter, start_unix_server

import pytest
from redis._parsers.base import BaseParser
from redis.asyncio.connection import parse_url

from sandboxq.broker.connect.plain_connection import arguments_of, error_from_text
from sandboxq.errors import BrokerUnavailable
from sandboxq.queue.queue import Queue
from tests.conftest import run_async

_PROGRAM = """
import asyncio, sys
from sandboxq import Queue

async def main():
    async with Queue("q", url=sys.argv[1]) as queue:
        await queue.add("job", {})

asyncio.run(main())
known = {name for name in sys.modules if name.split(".")[0] in ("redis", "opentelemetry")}
assert known == {"redis", "redis.exceptions"}, known
import redis
assert not hasattr(redis, "nothing")
assert redis.Redis and redis.__version__
import redis.asyncio
from redis.asyncio import Redis
assert issubclass(redis.ResponseError, redis.RedisError)
from redis.exceptions import ResponseError
assert ResponseError is redis.ResponseError
print("done")
"""


def test_a_producer_does_not_import_redis_py(redis_url: str) -> None:
    """It would take longer than all else; and whoever uses it beside us has all of it."""
    command = [sys.executable, "-c", _PROGRAM, redis_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("done\n", "")


@pytest.mark.parametrize(
    "text",
    [
        "ERR unknown command",
        "ERR max number of clients reached",
        "ERR invalid password",
        "ERR wrong number of arguments for 'auth' command",
        "ERR Client sent AUTH, but no password is set",
        "WRONGPASS invalid username-password pair or user is disabled.",
        "NOAUTH Authentication required.",
        "NOPERM this user has no permissions to run the 'get' command",
        "LOADING Redis is loading the dataset in memory",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "NOSCRIPT No matching script.",
        "READONLY You can't write against a read only replica.",
        "MOVED 3999 127.0.0.1:6381",
        "ASK 3999 127.0.0.1:6381",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN The cluster is down",
        "MASTERDOWN Link with MASTER is down",
        "CROSSSLOT Keys in request don't hash to the same slot",
        "EXECABORT Transaction discarded",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "BUSY Redis is busy running a script.",
        "",
    ],
)
def test_errors_are_named_as_redis_py_names_them(text: str) -> None:
    """Their kinds decide what is tried again."""
    ours, theirs = error_from_text(text), BaseParser.parse_error(text)  # type: ignore[no-untyped-call]  # redis-py has no hints for it
    assert (type(ours), str(ours)) == (type(theirs), str(theirs))


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://",
        "redis://h:7000/3",
        "redis://user:p%40ss@h/0?db=5",
        "redis://:only@[::1]:6380",
        "redis://h/abc",
        "redis://h?socket_timeout=1.5&socket_connect_timeout=2",
        "redis://h?socket_keepalive=no",
        "redis://h?db=1&db=2",
        "redis://h?unknown=1",
        "unix:///tmp/a%20b.sock",
        "unix://user:pw@/tmp/s.sock?db=7",
        "rediss://h:1/2?ssl_check_hostname=no",
    ],
)
def test_urls_say_what_they_said_to_redis_py(url: str) -> None:
    """Nobody has to write another one."""
    theirs = dict(parse_url(url))
    theirs.pop("connection_class", None)
    assert arguments_of(url) == theirs


@pytest.mark.parametrize("url", ["redis://h?db=x", "redis://h?socket_timeout=soon"])
def test_numbers_that_are_none_are_refused(url: str) -> None:
    """As redis-py does."""
    with pytest.raises(ValueError, match=r"."):
        arguments_of(url)


def test_what_is_no_redis_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The greeting shows it: another protocol, or an answer without an end."""

    async def scenario() -> None:
        path = tmp_path_factory.mktemp("s") / "s.sock"
        answers = [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x" * 200_000]

        async def serve(reader: StreamReader, writer: StreamWriter) -> None:
            await reader.read(10)
            writer.write(answers[0])
            await writer.drain()
            writer.close()

        async with await start_unix_server(serve, path):
            for _ in range(2):
                queue = Queue("q", url=f"unix://{path}?db=1")
                with pytest.raises(BrokerUnavailable, match="no Redis"):
                    await queue.add("job", {})
                await queue.close()
                answers.pop(0)
                answers.append(b"")

    run_async(scenario())


def test_who_does_not_answer_is_not_connected(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without an answer at the start, the first command would wait for as long as any other may."""

    async def scenario() -> None:
        path = tmp_path_factory.mktemp("s") / "s.sock"
        asked: list[bytes] = []

        async def serve(reader: StreamReader, writer: StreamWriter) -> None:
            asked.append(await reader.read(1000))
            await reader.read()
            writer.close()

        async with await start_unix_server(serve, path):
            queue = Queue("q", url=f"unix://{path}?socket_connect_timeout=0.2&socket_timeout=600")
            with pytest.raises(BrokerUnavailable, match=r"0\.2 s"):
                await queue.add("job", {})
            await queue.close()
        assert b"SETINFO" in asked[0]

    run_async(scenario())


@pytest.mark.parametrize("url", ["unix:///nowhere/s.sock", "redis://a..b"])
def test_who_is_not_there_is_told_in_known_words(url: str) -> None:
    """The command line adds what to do (cli/messages.py)."""

    async def scenario() -> None:
        with pytest.raises(BrokerUnavailable, match=" connecting to "):
            await Queue("q", url=url).add("job", {})

    run_async(scenario())
