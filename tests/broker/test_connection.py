"""The broker's connections: replies, errors, restarts of the server, cancellation, names, TLS."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.broker.connect.blocking import WATCHDOG_SECONDS
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.connect.connection_pool import MAX_LINKS
from sandboxq.broker.connect.script import Script
from sandboxq.broker.connect.server_info import ServerInfo, check_version, facts_from_info
from sandboxq.broker.connect.servers import OneServer
from sandboxq.errors import BrokerUnavailable, QueueError, UsageError
from sandboxq.observe.telemetry import (
    BrokerBack,
    BrokerLost,
    Event,
    Telemetry,
)
from tests.broker.servers import FaultProxy, StoppableServer
from tests.conftest import run_async, wait_until_async

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "S3cr3t/#?"  # noqa: S105 - an example
QUOTED = "S3cr3t%2F%23%3F"


def script_of(text: str) -> Script:
    """Make a script as broker/connect/script.py does."""
    return Script("test", text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


async def clients(broker: Broker) -> list[dict[str, str]]:
    """Return the rows of CLIENT LIST."""
    lines = (await broker.command("CLIENT", "LIST")).decode().splitlines()
    return [dict(pair.split("=", 1) for pair in line.split(" ") if "=" in pair) for line in lines]


# ── commands ────────────────────────────────────────────────────────────────


def test_replies_are_bytes_in_the_shapes_of_resp2(server_url: str, queue_name: str) -> None:
    """The codec and the scripts' decoders count on bytes, ints, None and lists, on any server."""

    async def main() -> list[Any]:
        broker = await Broker.connect(server_url)
        await broker.command("HSET", queue_name, "a", 1, b"b", 2.5)
        replies = await broker.pipeline(
            [("HGETALL", queue_name), ("GET", "no such key"), ("EXISTS", queue_name), ("PING",)]
        )
        await broker.close()
        return replies

    assert run_async(main()) == [[b"a", b"1", b"b", b"2.5"], None, 1, b"PONG"]


def test_an_error_reply_is_a_queue_error_and_the_connection_goes_on(
    server_url: str, queue_name: str
) -> None:
    """One wrong command must neither look like an outage nor shift the replies of the next."""

    async def main() -> None:
        broker = await Broker.connect(server_url)
        commands: list[list[str | int]]
        commands = [["SET", queue_name, "x"], ["LPUSH", queue_name, 1], ["APPEND", queue_name, "y"]]
        with pytest.raises(QueueError, match="WRONGTYPE") as caught:
            await broker.pipeline(commands)
        assert not isinstance(caught.value, BrokerUnavailable)
        assert await broker.command("GET", queue_name) == b"xy"
        await broker.close()

    run_async(main())


@pytest.mark.parametrize(
    ("setting", "refuse", "accept"),
    [("maxmemory", 1, 0), ("min-replicas-to-write", 1, 0)],
)
def test_refusals_that_pass_by_themselves_are_no_answer(
    server: StoppableServer, setting: str, refuse: int, accept: int
) -> None:
    """An outcome that a full or lonely Redis refuses must be sent again, not given up."""

    async def main() -> None:
        broker = await Broker.connect(server.url)
        script = script_of("return redis.call('INCRBY', KEYS[1], 1)")
        await broker.script(script, ["n"], [])
        await broker.command("CONFIG", "SET", setting, refuse)
        with pytest.raises(BrokerUnavailable):
            await broker.command("SET", "k", "v")
        with pytest.raises(BrokerUnavailable):
            await broker.script(script, ["n"], [])
        await broker.command("CONFIG", "SET", setting, accept)
        assert await broker.script(script, ["n"], []) == 2
        await broker.close()

    run_async(main())


def test_scripts_are_loaded_when_the_server_does_not_know_them(
    server: StoppableServer,
) -> None:
    """A restarted server has forgotten every script; no call may fail or run twice for that."""

    async def main() -> None:
        broker = await Broker.connect(server.url)
        script = script_of("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        assert await broker.script(script, ["n"], [1]) == 1
        await broker.command("SCRIPT", "FLUSH")
        assert await broker.scripts(script, [(["n"], [10]), (["n"], [100])]) == [11, 111]
        assert await broker.scripts(script, []) == []
        with pytest.raises(QueueError, match="boom"):
            await broker.script(script_of("return redis.error_reply('boom')"), [], [])
        await broker.close()

    run_async(main())


def test_ten_thousand_commands_at_once_share_a_few_connections(server_url: str) -> None:
    """`gather` over adds is what people write; the server has a limit of clients."""

    async def main() -> int:
        patient = "socket_connect_timeout=60&socket_timeout=60"  # on a busy machine
        broker = await Broker.connect(f"{server_url}?{patient}")
        replies = await asyncio.gather(*(broker.command("ECHO", n) for n in range(10_000)))
        assert replies == [str(n).encode() for n in range(10_000)]
        assert isinstance(broker._servers, OneServer)
        count = len(broker._servers._connections._idle)
        await broker.close()
        return count

    assert run_async(main()) <= MAX_LINKS


# ── restarts, silence, cancellation ─────────────────────────────────────────


def test_a_connection_that_went_stale_while_idle_does_not_fail_the_next_command(
    server: StoppableServer,
) -> None:
    """Redis restarts at night; the first job in the morning must not be the one that notices."""

    async def main() -> None:
        broker = await Broker.connect(server.url)
        reader = await broker.blocking("name", "key")
        await asyncio.gather(*(broker.command("PING") for _ in range(5)))
        # Blocking on purpose: the loop gets no chance to see the connections end.
        server.stop()
        server.start()
        assert await broker.command("PING") == b"PONG"
        assert await reader.pop_marker("marker", 0.01) is None
        await broker.close()

    run_async(main())


def test_a_command_whose_connection_breaks_is_sent_once(server: StoppableServer) -> None:
    """An add that runs twice is two jobs: whether to repeat is for its caller to decide."""

    async def main() -> Any:
        async with FaultProxy(server, cut_at=b"INCR") as proxy:
            broker = await Broker.connect(proxy.url)
            with pytest.raises(BrokerUnavailable):
                await broker.command("INCR", "n")
            await broker.close()
        direct = await Broker.connect(server.url)
        await wait_until_async(lambda: direct.command("EXISTS", "n"))
        count = await direct.command("GET", "n")
        await direct.close()
        return count

    assert run_async(main()) == b"1"


def test_a_server_that_goes_silent_is_unavailable_after_the_answer_timeout(
    server: StoppableServer,
) -> None:
    """A network that swallows packets must be noticed, and the late reply goes to nobody."""

    async def main() -> float:
        broker = await Broker.connect(server.url + "?socket_timeout=0.3")
        server.freeze()
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=r"did not answer within 0\.3 s"):
            await broker.command("ECHO", "late")
        seconds = time.monotonic() - began
        server.thaw()
        assert await broker.command("ECHO", "next") == b"next"
        await broker.close()
        return seconds

    assert 0.25 < run_async(main()) < 2


def test_a_cancelled_command_leaves_no_reply_for_the_next_caller(server_url: str) -> None:
    """Timeouts cancel in the middle of replies; handing job A's data to job B is the worst bug."""

    async def main() -> None:
        broker = await Broker.connect(server_url)
        for pause in (0, 0, 0.001, 0.005):
            task = asyncio.create_task(broker.command("BLPOP", "nothing", 5))
            await asyncio.sleep(pause)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await broker.command("ECHO", "mine") == b"mine"

        async def is_nobody_blocked() -> bool:
            return all(row["cmd"] != "blpop" for row in await clients(broker))

        await wait_until_async(is_nobody_blocked)
        await broker.close()

    run_async(main())


def test_a_closed_broker_refuses_and_may_be_closed_again(server_url: str) -> None:
    """A loop that outlives its broker must end with an error, not reconnect behind its back."""

    async def main() -> None:
        broker = await Broker.connect(server_url)
        reader = await broker.blocking("name", "key")
        await broker.close()
        await broker.close()
        for call in (
            broker.command("PING"),
            broker.wait_until_back(),
            reader.pop_marker("k", 1),
        ):
            with pytest.raises(BrokerUnavailable, match="closed"):
                await call

    run_async(main())


# ── connecting ──────────────────────────────────────────────────────────────


def test_nobody_there_says_where_and_why(tmp_path: Path) -> None:
    """Exit code 4 and its one line are all that a user of a wrong URL sees."""
    url = f"redis://ann:{QUOTED}@127.0.0.1:{StoppableServer(tmp_path).port}/0"

    with pytest.raises(
        BrokerUnavailable, match=r"redis://ann@127\.0\.0\.1:\d+/0.*Connect"
    ) as caught:
        run_async(Broker.connect(url))

    assert "S3cr3t" not in str(caught.value)


def test_user_password_and_database_of_the_url_are_used(tmp_path: Path) -> None:
    """ACL users and databases other than 0 are how shared servers are divided."""
    user = ["--user", "ann", "on", f">{SECRET}", "~*", "&*", "+@all"]

    async def main(server: StoppableServer) -> None:
        url = server.url.replace("127", f"ann:{QUOTED}@127") + "/3"
        broker = await Broker.connect(url)
        assert await broker.command("ACL", "WHOAMI") == b"ann"
        rows = await clients(broker)
        assert {row["db"] for row in rows} == {"3"}
        await broker.close()
        for wrong in (server.url, url.replace(QUOTED, "other")):
            with pytest.raises(BrokerUnavailable, match=r"uthenticat|password"):
                await Broker.connect(wrong)
        with pytest.raises(BrokerUnavailable, match="DB index"):
            await Broker.connect(url.replace("/3", "/99"))

    with StoppableServer(tmp_path, "--requirepass", "root", *user) as server:
        run_async(main(server))


def test_a_user_without_info_can_still_work(tmp_path: Path) -> None:
    """Hosted Redis takes INFO away from some users; that is no reason to refuse."""
    user = ["--user", "ann", "on", ">pw", "~*", "&*", "+@all", "-info"]

    async def main(server: StoppableServer) -> ServerInfo:
        broker = await Broker.connect(server.url.replace("127", "ann:pw@127"))
        await broker.close()
        return broker.facts

    with StoppableServer(tmp_path, *user) as server:
        assert run_async(main(server)) == ServerInfo()


def test_tls_with_a_private_authority(tmp_path: Path) -> None:
    """Hosted Redis is TLS; a certificate that nobody vouches for must be refused."""
    program = shutil.which("redis-server")
    if program is None or shutil.which("openssl") is None:
        pytest.skip("needs redis-server with TLS, and openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    server = StoppableServer(tmp_path, program=program)
    options = ["--tls-port", str(server.port), "--tls-cert-file", str(certificate)]
    options += ["--tls-key-file", str(key), "--tls-auth-clients", "no"]
    server._command[2:3] = ["0"]
    server._command += options
    url = f"rediss://127.0.0.1:{server.port}"

    async def main() -> None:
        broker = await Broker.connect(f"{url}?ssl_ca_certs={certificate}")
        assert await broker.command("ECHO", "x" * 1_000_000) == b"x" * 1_000_000
        server.stop()
        server.start()
        assert await broker.command("PING") == b"PONG"
        await broker.close()
        broker = await Broker.connect(f"{url}?ssl_cert_reqs=none")
        await broker.close()
        with pytest.raises(BrokerUnavailable, match="certificate"):
            await Broker.connect(url)

    with server:
        run_async(main())


def test_a_server_that_still_loads_is_waited_for(tmp_path: Path) -> None:
    """After a crash a large file takes seconds to read; the first command should just be slower."""
    # Each key takes 2 ms to load, and the server looks at its clients after each kilobyte.
    slow = ("--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")
    server = StoppableServer(tmp_path, *slow)

    async def fill() -> None:
        broker = await Broker.connect(server.url)
        await broker.pipeline([("SET", f"k{n}", "v" * 1024) for n in range(300)])
        await broker.command("SAVE")
        await broker.close()

    async def read() -> tuple[bytes, float]:
        started = time.monotonic()
        broker = await Broker.connect(server.url)
        seconds = time.monotonic() - started
        value = await broker.command("GET", "k299")
        await broker.close()
        return value, seconds

    with server:
        run_async(fill())
    with server:
        value, seconds = run_async(read())
    assert value == b"v" * 1024
    assert seconds > 0.3


def test_what_speaks_another_protocol_is_unavailable() -> None:
    """A wrong port often reaches a web server."""

    async def main(port: int) -> None:
        with pytest.raises(BrokerUnavailable):
            await Broker.connect(f"redis://127.0.0.1:{port}")

    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as web:
        serving = threading.Thread(target=web.serve_forever)
        serving.start()
        try:
            run_async(main(web.server_port))
        finally:
            web.shutdown()
            serving.join()


@pytest.mark.parametrize(
    ("info", "facts"),
    [
        (b"redis_version:6.0.9\r\n", ServerInfo("redis", "6.0.9")),
        (b"redis_version:7.2.4\r\nvalkey_version:7.2.9\r\n", ServerInfo("valkey", "7.2.9")),
    ],
)
def test_servers_too_old_are_refused_by_name(info: bytes, facts: ServerInfo) -> None:
    """On an old server scripts would fail later, one job at a time."""
    assert facts_from_info(info) == facts
    with pytest.raises(BrokerUnavailable, match=f"{facts.version} is too old"):
        check_version(facts)


@pytest.mark.parametrize(
    "info",
    [
        b"redis_version:6.2.0\r\n",
        b"redis_version:255.255.255\r\n",
        b"redis_version:7.2.4\r\nvalkey_version:8.0.1\r\n",
        b"redis_version:6.0.0\r\ndragonfly_version:df-v1.0.0\r\n",
        b"server_time_usec:soon\r\nuptime_in_seconds:nan\r\n",
        b"",
    ],
)
def test_other_servers_are_accepted(info: bytes) -> None:
    """Valkey calls itself Redis 7.2.4 and Dragonfly 6.x; neither number is its own."""
    check_version(facts_from_info(info))


def test_a_server_that_may_evict_jobs_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Evicted keys are jobs that vanish without an error; Node warns too."""
    with StoppableServer(tmp_path, "--maxmemory-policy", "allkeys-lru") as server:

        async def main() -> None:
            await (await Broker.connect(server.url)).close()

        run_async(main())

    assert "allkeys-lru, it should be noeviction" in caplog.text


# ── blocking reads ──────────────────────────────────────────────────────────


def test_markers_and_events_are_read_on_a_named_connection(
    server_url: str, queue_name: str
) -> None:
    """The name is how bull-board and Node's getWorkers find a worker."""

    async def main() -> None:
        broker = await Broker.connect(server_url)
        reader = await broker.blocking(f"bull:{queue_name}:w:me", "key")
        assert await reader.pop_marker(queue_name, 0) is None
        await broker.command("ZADD", queue_name, "17.5", "1", "3", "0")
        assert await reader.pop_marker(queue_name, 1) == 3.0
        assert await reader.pop_marker(queue_name, 1) == 17.5
        stream = queue_name + ":events"
        first = (await broker.command("XADD", stream, "*", "event", "added", "x", "é")).decode()
        assert await reader.read_events(stream, "0", 1) == [(first, {"event": "added", "x": "é"})]
        assert await reader.read_events(stream, first, 0.01) == []
        with pytest.raises(QueueError, match="WRONGTYPE"):
            await reader.pop_marker(stream, 1)
        names = [row["name"] for row in await clients(broker)]
        assert names.count(f"bull:{queue_name}:w:me") == 1
        await broker.close()

    run_async(main())


def test_the_name_is_set_again_after_a_restart(server: StoppableServer) -> None:
    """A worker that reconnected must not vanish from dashboards."""

    async def main() -> None:
        broker = await Broker.connect(server.url)
        reader = await broker.blocking("bull:cQ==", "key")
        waiting = asyncio.create_task(reader.pop_marker("marker", 30))
        await asyncio.sleep(0)
        await asyncio.to_thread(server.stop)
        with pytest.raises(BrokerUnavailable):
            await waiting
        with pytest.raises(BrokerUnavailable):
            await reader.pop_marker("marker", 1)
        server.start()
        assert await reader.pop_marker("marker", 0.01) is None
        assert [row["name"] for row in await clients(broker)].count("bull:cQ==") == 1
        await broker.close()

    run_async(main())


def test_a_blocked_connection_without_an_answer_is_dropped(server: StoppableServer) -> None:
    """A half-open connection would leave the worker deaf for ever; Node has the same watchdog."""

    async def main() -> float:
        broker = await Broker.connect(server.url)
        reader = await broker.blocking("name", "key")
        server.freeze()
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            await reader.pop_marker("marker", 0.1)
        seconds = time.monotonic() - began
        server.thaw()
        assert await reader.pop_marker("marker", 0.01) is None
        await broker.close()
        return seconds

    assert WATCHDOG_SECONDS < run_async(main()) < 2 * WATCHDOG_SECONDS


def test_a_cancelled_wait_does_not_answer_the_next_one(server_url: str, queue_name: str) -> None:
    """Shutdown cancels the wait; a reply that comes after it belongs to nobody."""

    async def main() -> None:
        broker = await Broker.connect(server_url)
        reader = await broker.blocking("name", "key")
        waiting = asyncio.create_task(reader.pop_marker(queue_name, 5))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await reader.read_events(queue_name + ":events", "0", 0.01) == []
        await broker.close()

    run_async(main())


@pytest.mark.parametrize("name", ["", "with space", "line\nbreak", "ü"])
def test_client_names_that_redis_refuses_are_usage_errors(server_url: str, name: str) -> None:
    """Otherwise a worker's odd name would look like an outage, retried for ever."""

    async def main() -> None:
        broker = await Broker.connect(server_url)
        with pytest.raises(UsageError, match="printable ASCII"):
            await broker.blocking(name, "key")
        await broker.close()

    run_async(main())


# ── Pub/Sub ─────────────────────────────────────────────────────────────────


def test_a_subscription_survives_a_restart_and_ends_when_closed(server: StoppableServer) -> None:
    """`scale` must reach a worker that has lived through an outage."""

    async def main() -> list[bytes]:
        broker = await Broker.connect(server.url)
        subscription = await broker.subscribe("channel")
        got: list[bytes] = []

        async def listen() -> None:
            async for payload in subscription:
                got.append(payload)  # noqa: PERF401 - looked at while it grows

        listening = asyncio.create_task(listen())
        await broker.command("PUBLISH", "channel", b"one\xff")
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)

        async def is_heard() -> bool:
            return bool(await broker.command("PUBLISH", "channel", "two"))

        await wait_until_async(is_heard)

        async def has_both() -> bool:
            return len(got) == 2

        await wait_until_async(has_both)
        await subscription.close()
        await asyncio.wait_for(listening, 5)
        await broker.close()
        return got

    assert run_async(main()) == [b"one\xff", b"two"]


def test_a_silent_subscription_is_asked_whether_it_lives(
    server: StoppableServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else would ever notice a half-open Pub/Sub connection."""
    monkeypatch.setattr("sandboxq.broker.connect.blocking.SUBSCRIPTION_SILENCE", 0.05)
    monkeypatch.setattr("sandboxq.broker.connect.blocking.SUBSCRIPTION_ANSWER", 0.3)

    async def main() -> bytes:
        broker = await Broker.connect(server.url)
        subscription = await broker.subscribe("channel")
        hearing = asyncio.ensure_future(anext(subscription))
        # Several silences, each answered by a PONG.
        await asyncio.sleep(0.2)
        server.freeze()
        await asyncio.sleep(0.5)
        server.thaw()

        async def is_heard() -> bool:
            await broker.command("PUBLISH", "channel", "here")
            return hearing.done()

        await wait_until_async(is_heard)
        await broker.close()
        return await hearing

    assert run_async(main()) == b"here"


def test_closing_the_broker_ends_a_subscription(server_url: str) -> None:
    """A worker's control loop must end with its worker."""

    async def main() -> None:
        broker = await Broker.connect(server_url)
        subscription = await broker.subscribe("channel")
        ending = asyncio.ensure_future(anext(subscription, b"end"))
        await asyncio.sleep(0)
        await broker.close()
        assert await asyncio.wait_for(ending, 5) == b"end"

    run_async(main())


# ── absence ─────────────────────────────────────────────────────────────────


def test_everybody_waits_in_one_loop_and_it_is_said_once(server: StoppableServer) -> None:
    """Five services retrying by themselves are a storm, and five log lines say one thing."""
    told: list[Event] = []
    telemetry = Telemetry()
    telemetry.subscribe(told.append)

    async def main() -> None:
        broker = await Broker.connect(server.url)
        await asyncio.to_thread(server.stop)
        waiting = [asyncio.create_task(broker.wait_until_back(telemetry)) for _ in range(5)]
        await asyncio.sleep(0.3)
        # One that gives up must not end the wait of the others.
        waiting.pop().cancel()
        await asyncio.to_thread(server.start)
        await asyncio.gather(*waiting)
        assert await broker.command("PING") == b"PONG"
        await broker.close()

    run_async(main())

    assert [type(event) for event in told] == [BrokerLost, BrokerBack]
    assert isinstance(told[1], BrokerBack)
    assert told[1].seconds > 0.3


def test_waiting_is_no_busy_loop(server: StoppableServer) -> None:
    """A worker must not burn a core, nor hammer a server that is coming up."""

    async def main() -> tuple[int, float]:
        async with FaultProxy(server, cut_at=b"PING") as proxy:
            broker = await Broker.connect(proxy.url)
            before, cpu_before = proxy.connections, time.process_time()
            waiting = [asyncio.create_task(broker.wait_until_back()) for _ in range(10)]
            await asyncio.sleep(1.5)
            tries, cpu = proxy.connections - before, time.process_time() - cpu_before
            await broker.close()
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(result, BrokerUnavailable) for result in results)
            return tries, cpu

    tries, cpu = run_async(main())
    assert 2 <= tries <= 40
    assert cpu < 0.5
