"""examples/uploads: a picture goes in by HTTP, thumbnails come out, a stream says how far."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Queue
from tests.conftest import wait_until
from tests.examples.programs import environment, program, uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

EXAMPLE = Path(__file__).parents[2] / "examples" / "uploads"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the example runs."""
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """Serve the application."""
    with uvicorn(folder, EXAMPLE) as url:
        yield url


@pytest.fixture(scope="module")
def worker(folder: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the worker beside it."""
    del url  # its server is the application's
    arguments = ("run", str(EXAMPLE / "thumbnails.py"), "--procs", "1")
    with program(folder, "sandboxq", *arguments) as process:
        yield process


def picture() -> bytes:
    """Return a PNG."""
    from PIL import Image

    with io.BytesIO() as file:
        Image.new("RGB", (640, 480), "orange").save(file, "PNG")
        return file.getvalue()


def events_of(url: str) -> list[tuple[str, Any]]:
    """Read a stream to its end, as a browser does."""
    events = []
    with httpx.stream("GET", url, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
    return events


def test_a_picture_becomes_thumbnails(url: str, worker: subprocess.Popen[bytes]) -> None:
    """The stream says how far it is, and names the files; they can be fetched."""
    assert worker.poll() is None
    answer = httpx.post(f"{url}/uploads", content=picture()).json()

    *before, (last, data) = events_of(url + answer["events"])

    assert {name for name, _ in before} <= {"progress"}
    assert (last, len(data["value"])) == ("completed", 3)
    assert httpx.get(f"{url}/thumbnails/{data['value'][0]}").content.startswith(b"\x89PNG")
    # Who comes later is told at once.
    assert events_of(url + answer["events"]) == [("completed", data)]


def test_what_is_no_picture(url: str, worker: subprocess.Popen[bytes]) -> None:
    """Its job fails, and the stream says why; the worker goes on."""
    answer = httpx.post(f"{url}/uploads", content=b"no picture").json()

    *_, (last, data) = events_of(url + answer["events"])

    assert last == "failed"
    assert "cannot identify image file" in data["reason"]
    assert worker.poll() is None


def test_a_job_that_is_not_there(url: str) -> None:
    """The stream of no job is 404, and so are paths outside of the folder."""
    assert httpx.get(f"{url}/jobs/999999/events").status_code == 404
    assert httpx.get(f"{url}/thumbnails/..%2Fapp.py").status_code == 404


def test_many_streams_share_a_connection(
    url: str, folder: Path, worker: subprocess.Popen[bytes]
) -> None:
    """Thirty pages are open on jobs that wait; then all of them end."""
    count = (
        "import asyncio, json\nfrom sandboxq.broker.connect.broker import Broker\n"
        "async def main():\n"
        "    broker = await Broker.connect()\n"
        "    print(len(await broker.command('CLIENT', 'LIST')and "
        "(await broker.command('CLIENT', 'LIST')).splitlines()))\n"
        "    await broker.close()\n"
        "asyncio.run(main())"
    )

    def clients() -> int:
        done = subprocess.run(
            [sys.executable, "-c", count], cwd=folder, env=environment({}), text=True,
            capture_output=True, check=True,
        )  # fmt: skip
        return int(done.stdout)

    socket = folder / ".sandboxq" / "valkey.sock"
    with Queue.sync("thumbnails", f"unix://{socket}") as queue:
        queue.pause()
        paths = [
            httpx.post(f"{url}/uploads", content=picture()).json()["events"] for _ in range(30)
        ]
        before = clients()
        with ThreadPoolExecutor(30) as threads:
            streams = [threads.submit(events_of, url + path) for path in paths]
            wait_until(lambda: _open_streams(url) >= 30)
            assert clients() - before <= 20  # the pool of commands, and one for the events
            queue.resume()
            ends = [stream.result(90)[-1][0] for stream in streams]
    assert ends == ["completed"] * 30
    assert worker.poll() is None
    wait_until(lambda: _open_streams(url) == 0)


def _open_streams(url: str) -> int:
    """Return how many connections the application's port has, without this one."""
    port = int(url.rpartition(":")[2])
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [row.split() for row in rows]
    here = f":{port:04X}"
    return sum(each[1].endswith(here) and each[3] == "01" for each in fields)
