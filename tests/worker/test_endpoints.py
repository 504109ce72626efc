"""What a worker tells by HTTP, asked over a real connection."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Worker, WorkerGroup, WorkersFailed
from sandboxq.worker.endpoints import Endpoints
from tests.conftest import run_async, wait_until_async
from tests.worker.test_worker import PROCESSOR, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def get(http: Endpoints, path: str, *, accept: str = "*/*") -> tuple[int, str]:
    """Return status and body."""
    reader, writer = await asyncio.open_connection(*http.address)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nAccept: {accept}\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        return int(head.split()[1]), body
    finally:
        writer.close()


async def get_json(http: Endpoints, path: str) -> tuple[int, Any]:
    """Return status and what the body says."""
    status, body = await get(http, path)
    return status, json.loads(body)


async def until(http: Endpoints, path: str, is_so: Callable[[int, Any], bool]) -> Any:
    """Ask until the answer is as wanted; return what it says."""

    async def asked() -> Any:
        status, said = await get_json(http, path)
        return said if is_so(status, said) else None

    return await wait_until_async(asked)


def test_ready_from_its_run_until_it_stops(server_url: str, queue_name: str) -> None:
    """Before and after that nobody is ready; it is alive all the time."""

    async def main() -> None:
        async with Endpoints("0") as http:
            assert await get_json(http, "/readyz") == (503, {"ready": False, "workers": []})
            async with running(server_url, queue_name) as (_, worker):
                http.add(worker)
                said = await until(http, "/readyz", lambda status, _: status == 200)
                (row,) = said["workers"]
                assert row.pop("queue") == queue_name
                assert row.pop("paused") is False
                assert all(row.values())
                worker.stop()
                said = await until(http, "/readyz", lambda status, _: status == 503)
                assert all(not row["claiming"] for row in said["workers"])
            assert (await get_json(http, "/livez"))[0] == 200
            assert await get_json(http, "/readyz") == (503, {"ready": False, "workers": []})

    run_async(main())


def _has_one_ready(_status: int, said: Any) -> bool:
    return any(row["ready"] for row in said["workers"])


def test_a_queue_that_is_not_served_is_seen(
    tmp_path: Path, server_url: str, queue_name: str
) -> None:
    """Of several workers one could not start: the others run, and a rolling deploy stops here."""

    async def scenario() -> None:
        broken = Worker(f"{queue_name}-broken", tmp_path / "none.py", url=server_url)
        other = Worker(queue_name, PROCESSOR, url=server_url, procs=1)
        async with Endpoints("0") as http:
            http.add(broken, other)
            async with WorkerGroup([broken, other]) as group:
                going = asyncio.create_task(group.run(handle_signals=False))
                said = await until(http, "/readyz", _has_one_ready)
                rows = {row["queue"]: row["ready"] for row in said["workers"]}
                assert not said["ready"]
                assert rows == {f"{queue_name}-broken": False, queue_name: True}
                group.stop()
                with pytest.raises(WorkersFailed):
                    await going

    run_async(scenario())
