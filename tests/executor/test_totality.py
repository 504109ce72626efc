"""Whatever a function does, and whatever a worker answers, ends its future."""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sandboxq import RemoteError, SandboxExecutor, SandboxqError
from sandboxq.errors import JobFailed, UsageError
from tests.executor.test_executor import SECRET, worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def deep(levels: int) -> Any:
    """Return so many lists in each other."""
    sys.setrecursionlimit(100_000)
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def stops() -> None:
    """Raise what ends a coroutine or a generator quietly."""
    raise StopIteration(3)


def next_of_nothing() -> Any:
    """Do so as code does it by mistake."""
    return next(iter([]))


def with_bad_text() -> None:
    """Raise an exception whose every method fails."""

    class Bad(ValueError):
        def __str__(self) -> str:
            raise SystemExit

        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

        __repr__ = __str__

    raise Bad


def with_bad_class() -> None:
    """Raise an exception whose class has no name that can be read."""

    class Meta(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise ValueError

    class Bad(Exception, metaclass=Meta):
        pass

    raise Bad


def with_bad_notes() -> None:
    """Raise an exception that takes no notes."""
    error = ValueError("noted")
    error.__notes__ = 3  # type: ignore[assignment]
    raise error


def exits_with_bad_code() -> None:
    """Exit with something that has no text."""

    class Bad:
        def __repr__(self) -> str:
            raise ValueError

    sys.exit(Bad())  # type: ignore[arg-type]


def a_group() -> None:
    """Raise what is no Exception."""
    message = "group"
    raise BaseExceptionGroup(message, [KeyboardInterrupt()])


def leaves_generator() -> None:
    """Raise what closes generators."""
    raise GeneratorExit


FAILING = [
    stops,
    next_of_nothing,
    with_bad_text,
    with_bad_class,
    with_bad_notes,
    exits_with_bad_code,
    a_group,
    leaves_generator,
]


def test_any_exception_ends_its_future(server_url: str, queue_name: str) -> None:
    """Also one that asyncio cannot put into a future, and one that cannot be described."""

    async def main() -> None:
        async with SandboxExecutor(queue_name, server_url, secret=SECRET) as executor:
            assert await executor.run(len, "abc") == 3  # the worker has started
            for function in FAILING:
                for attempt in (
                    executor.run(function),
                    asyncio.wrap_future(executor.submit(function)),
                ):
                    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is told below
                        await asyncio.wait_for(attempt, 20)
                    assert isinstance(raised.value, (JobFailed, RemoteError, ValueError)), function
            with pytest.raises(RemoteError) as stopped:
                await executor.run(stops)
            assert stopped.value.type_name == "StopIteration"
            assert await executor.run(len, "abc") == 3

    with worker(server_url, queue_name):
        asyncio.run(main())


def test_any_value_ends_its_future(server_url: str, queue_name: str) -> None:
    """Too deep, too odd, or of numpy: a value or an error that says what it is."""
    with (
        worker(server_url, queue_name),
        SandboxExecutor(queue_name, server_url, secret=SECRET) as executor,
    ):
        assert str(executor.submit(deep, 100).result(60)).count("[") == 101
        for levels in (201, 700, 5000):
            assert "levels deep" in str(executor.submit(deep, levels).exception(60))
        assert executor.submit(lambda: 10**4000).result(60) == 10**4000
        assert executor.submit(lambda: 10**5000).exception(60) is not None
        huge = decimal.Decimal("1e999999999")
        assert executor.submit(lambda: huge).result(60) == huge
        best = executor.submit(lambda: {"best": np.arange(5).argmax(), np.int8(2): "two"})
        assert best.result(60) == {"best": 4, 2: "two"}
        assert executor.submit(lambda: (x for x in "ab")).exception(60) is not None
        named = len
        renamed = lambda: 1  # noqa: E731 - its name is changed
        renamed.__qualname__ = "x" * 10_000 + "é☃"
        assert executor.submit(renamed).result(60) == 1
        assert executor.submit(named, "ab").result(60) == 2


ANSWERS = {
    "huge-fraction": '[{"$fraction": "1e30000000"}]',
    "bytearray-of-a-number": '[{"$bytearray": 300000000000}]',
    "array-of-a-number": '[{"$array": ["|u1", [2000000000], 2000000000]}]',
    "no-list": '{"a": 1}',
    "empty": "[]",
    "a-number": "3",
    "unknown-tag": '[{"$mystery": 1}]',
    "deep": "[" * 900 + "]" * 900,
    "deeper": "[" * 100_000 + "]" * 100_000,
    "colliding": '[{"$set": [' + ",".join(str((2**61 - 1) * n) for n in range(20_000)) + "]}]",
    "long-number": "[" + "9" * 5000 + "]",
    "false-blob": '[{"sq:binary": "a"}]',
    "not-finite": '[{"$float": [1]}]',
}


@contextlib.contextmanager
def liar(url: str, queue: str, folder: Path) -> Iterator[None]:
    """Run a worker that has no secret and answers what it likes."""
    source = folder / "liar.py"
    source.write_text(
        "import gc, os\n"
        f"ANSWERS = {ANSWERS!r}\n"
        "def process(job):\n"
        "    from sandboxq.child.frames import DONE\n"
        "    from sandboxq.child.link import Link\n"
        "    links = [each for each in gc.get_objects() if type(each) is Link]\n"
        "    link = next(each for each in links if each._socket.fileno() >= 0)\n"
        "    link.send(DONE, job._seq, ANSWERS[job.name].encode())\n"
        "    os._exit(0)\n"
    )
    command = [sys.executable, "-m", "sandboxq", "run", str(source)]
    process = subprocess.Popen(
        [*command, "--queue", queue, "--url", url, "--procs", "2", "--timeout", "5"],
        env=dict(os.environ),
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def test_any_answer_ends_its_future(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """A worker that was taken over cannot freeze, fill or hang who has sent it a function."""

    def named(name: str) -> Callable[[], None]:
        def function() -> None:
            """Never run: this worker does not."""

        function.__qualname__ = name
        return function

    with (
        liar(server_url, queue_name, tmp_path),
        SandboxExecutor(queue_name, server_url, secret=SECRET) as executor,
    ):
        futures = {name: executor.submit(named(name)) for name in ANSWERS}
        started = time.process_time()
        for name, future in futures.items():
            error = future.exception(60) if name != "false-blob" else None
            assert name == "false-blob" or isinstance(error, SandboxqError), (name, error)
            assert not isinstance(error, RemoteError), (name, error)  # the liar itself failed
        assert futures["false-blob"].result(60) == {"sq:binary": "a"}
        assert time.process_time() - started < 20


def test_a_call_that_cannot_be_added_fails_alone(server_url: str, queue_name: str) -> None:
    """Also beside others in one batch, whose jobs are added and end."""
    with (
        worker(server_url, queue_name),
        SandboxExecutor(queue_name, server_url, secret=SECRET, size_limit=20_000) as executor,
    ):
        sizes = [10, 20, 50_000, 30, 60_000, 40]
        futures = [executor.submit(len, bytes(size)) for size in sizes]
        for size, future in zip(sizes, futures, strict=True):
            if size > 20_000:
                assert isinstance(future.exception(60), UsageError)
            else:
                assert future.result(60) == size
