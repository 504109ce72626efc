"""Queues, jobs and answers as anybody may have left them: commands show what there is."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis

from sandboxq.broker.commands.workers import ask_for_stacks, ask_to_scale
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from tests.cli.test_operating import Shell
from tests.conftest import run_async

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOB = {"name": "n", "data": "{}", "opts": "{}", "timestamp": "1", "delay": "0", "priority": "0"}


@pytest.fixture
def shell(server_url: str, queue_name: str) -> Shell:
    """Return a shell with an empty queue."""
    return Shell(server_url, queue_name)


@pytest.fixture
def client(server_url: str) -> Iterator[Any]:
    """Yield a plain client."""
    with redis.Redis.from_url(server_url) as client:
        yield client


@pytest.mark.parametrize(
    "odd",
    [
        {"timestamp": "9007199254740991"},
        {"timestamp": "-9007199254740991"},
        {"opts": '{"x":"\\ud800"}'},
        {"opts": '{"x":' + "[" * 600 + "]" * 600 + "}"},
    ],
    ids=["late", "early", "surrogate", "deep"],
)
def test_a_job_is_shown_whatever_its_hash_says(
    shell: Shell, client: Any, odd: dict[str, str]
) -> None:
    """A time beyond the calendar, or options that cannot be added, hide neither it nor others."""
    keys = QueueKeys(shell.queue)
    client.hset(keys["1"], mapping={**JOB, **odd})
    client.hset(keys["2"], mapping=JOB)
    client.rpush(keys["wait"], "1", "2")
    client.hset(keys["meta"], "version", "bullmq:6.7.0")  # no other field of a queue is needed

    assert len(shell.run("jobs", "waiting").splitlines()) == 3
    assert [each["id"] for each in json.loads(shell.run("jobs", "waiting", "--json"))] == ["1", "2"]
    assert "name" in shell.run("jobs", "--id", "1")


def test_one_spoilt_queue_leaves_the_others_their_counts(shell: Shell, client: Any) -> None:
    """It is named with what is wrong."""
    keys, prefix = QueueKeys("good", shell.queue), ("--prefix", shell.queue)
    for name in ("bad", "good"):
        client.hset(QueueKeys(name, shell.queue)["meta"], "opts.maxLenEvents", 10)
    client.set(QueueKeys("bad", shell.queue)["wait"], "no list")
    client.lpush(keys["wait"], "1")

    whole = Shell(shell.url, "--json")  # no queue is named
    text = whole.run("stats", *prefix)
    assert json.loads(text.splitlines()[0])["good"]["waiting"] == 1
    assert "queue 'bad' is left out: WRONGTYPE" in text
    assert "WRONGTYPE" in Shell(shell.url, "bad").run("stats", *prefix, code=1)


def test_a_wait_that_cannot_be_adds_nothing(shell: Shell) -> None:
    """To add the job and then refuse would have it added again."""
    assert "--wait-timeout" in shell.run("add", "n", "--wait", "--wait-timeout", "nan", code=2)
    assert shell.counts() == {}


def test_answers_that_are_none_are_left_out(server_url: str, queue_name: str, client: Any) -> None:
    """Anybody who hears the question may answer it, a worker of another version too."""
    keys = QueueKeys(queue_name)
    channel = client.pubsub(ignore_subscribe_messages=True)
    channel.subscribe(keys.control_channel)
    channel.get_message(timeout=5)

    def answer() -> None:
        for _ in range(2):
            message = None
            while message is None:
                message = channel.get_message(timeout=5)
            reply_key = json.loads(message["data"])["reply_key"]
            rows: list[Any] = [{}, [], {"worker": "old"}, {"worker": "w", "procs": 3}]
            client.rpush(reply_key, "no JSON", *map(json.dumps, rows))

    answering = threading.Thread(target=answer)
    answering.start()

    async def main() -> tuple[list[Any], list[Any]]:
        broker = await Broker.connect(server_url)
        try:
            scaled = await ask_to_scale(broker, keys, 3)
            return scaled, await ask_for_stacks(broker, [keys], "")
        finally:
            await broker.close()

    assert run_async(main()) == ([{"worker": "w", "procs": 3}], [])
    answering.join()
    channel.close()


def test_an_unknown_state_is_told_with_the_words_that_can_be_typed(shell: Shell) -> None:
    """The names of an enum's members (WAITING_CHILDREN) would be refused in their turn."""
    assert "'waiting-children'" in shell.run("jobs", "done", code=2)


def test_a_server_that_is_not_there_is_told_with_what_to_do(
    queue_name: str, tmp_path: Path
) -> None:
    """The cause alone does not say how another Redis is named."""
    shell = Shell(f"unix://{tmp_path}/no.sock", queue_name)

    assert "say where it is with --url" in shell.run("stats", code=4)
