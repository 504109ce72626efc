"""The ready-made processors under `strict`, once they are granted what they read and write."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxq.sandbox.policy import Policy
from tests.conftest import run_async
from tests.pool.caller import open_pool, processor_file

_PROCESSORS = Path(__file__).parents[2] / "processors"


def test_burn_and_array_stats_need_no_grant() -> None:
    """Pure Python and numpy compute."""
    pytest.importorskip("numpy")

    async def main() -> None:
        async with open_pool(_PROCESSORS / "burn.py", policy="strict") as caller:
            assert (await caller.value({"seconds": 0.01}))["rounds"] > 0
        async with open_pool(_PROCESSORS / "array_stats.py", policy="strict") as caller:
            assert (await caller.value({"size": 1000, "seed": 1}))["count"] == 1000

    run_async(main())


def test_resize_with_two_folders(tmp_path: Path) -> None:
    """Pictures come from one folder and go to another; a child each, if wanted."""
    image = pytest.importorskip("PIL.Image")
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    image.new("RGB", (64, 48), "red").save(source / "a.png")
    data = {"src": str(source / "a.png"), "dst": str(target / "small" / "a.jpg"), "width": 32}

    async def main() -> None:
        for is_fresh in (False, True):
            policy = Policy("strict", read=[str(source)], write=[str(target)], fresh=is_fresh)
            async with open_pool(_PROCESSORS / "resize.py", policy=policy) as caller:
                pids = set()
                for _ in range(3):
                    pids |= set(caller.pool.pids)
                    assert (await caller.value(data))["height"] == 24
                assert len(pids) > 1 or not is_fresh

    run_async(main())


def test_async_processor_under_strict() -> None:
    """The loop of a child needs a pair of sockets and a pipe, and no network."""

    async def main() -> None:
        async with open_pool(_PROCESSORS / "sleep.py", policy="strict", concurrency=4) as caller:
            calls = [caller.submit({"seconds": 0.01}) for _ in range(4)]
            for call in calls:
                assert "seconds" in str(await caller.outcome(call))

    run_async(main())


_PROGRAMS = """
import asyncio, os, tempfile

def sqlite():
    import sqlite3
    with tempfile.TemporaryDirectory() as folder:
        for mode in ("delete", "wal"):
            base = sqlite3.connect(f"{folder}/{mode}.db")
            base.execute(f"pragma journal_mode={mode}")
            base.execute("create table t (n)")
            base.executemany("insert into t values (?)", [(n,) for n in range(100)])
            base.commit()
            total = base.execute("select sum(n) from t").fetchone()[0]
            base.close()
    return total

def zones():
    import datetime, zoneinfo
    return str(datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")).utcoffset())

def tls():
    import ssl, hashlib, secrets
    return len(ssl.create_default_context().get_ciphers()) > 3 and len(secrets.token_hex(8))

def files():
    import mmap, shutil, zipfile
    from pathlib import Path
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder, "a")
        first.write_bytes(bytes(100_000))
        shutil.copyfile(first, first.with_name("b"))
        first.rename(first.with_name("c"))
        with zipfile.ZipFile(Path(folder, "z.zip"), "w") as archive:
            archive.write(Path(folder, "c"), "c")
        with zipfile.ZipFile(Path(folder, "z.zip")) as archive:
            archive.extractall(Path(folder, "out"))
        with open(Path(folder, "c"), "r+b") as file:
            file.truncate(4096)
            area = mmap.mmap(file.fileno(), 4096)
            area[:2] = b"ab"
            area.flush()
            area.close()
            os.fsync(file.fileno())
            os.posix_fallocate(file.fileno(), 0, 8192)
        with tempfile.SpooledTemporaryFile(max_size=10) as file:
            file.write(b"more than ten bytes")
        return sorted(path.name for path in Path(folder).iterdir())

def threads():
    import queue, signal, threading, time
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(8) as pool:
        total = sum(pool.map(lambda n: (time.sleep(0.001), n)[1], range(32)))
    os.sched_getaffinity(0), os.sched_yield(), threading.get_native_id()
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(0.02)
    signal.signal(signal.SIGALRM, before)
    return total

def loop():
    async def main():
        near, far = await asyncio.open_connection(sock=pair[0]), pair[1]
        far.sendall(b"line\\n")
        line = await near[0].readline()
        near[1].close()
        await asyncio.to_thread(len, b"")
        return line.decode()
    import socket
    pair = socket.socketpair()
    with pair[1]:
        return asyncio.run(main())

def uv():
    import uvloop
    async def main():
        await asyncio.sleep(0.001)
        return await asyncio.to_thread(lambda: "uv")
    return uvloop.run(main())

def native():
    import ctypes, ctypes.util
    libc = ctypes.CDLL(None)
    pointer = ctypes.POINTER(ctypes.c_int)
    order = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)
    numbers = (ctypes.c_int * 5)(5, 1, 4, 2, 3)
    libc.qsort(numbers, 5, 4, order(lambda a, b: a[0] - b[0]))
    return list(numbers)

def arrays():
    import numpy
    square = numpy.random.default_rng(1).random((300, 300))
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        numpy.save(file, square)
        file.flush()
        mapped = numpy.load(file.name, mmap_mode="r")
        return bool(numpy.allclose(mapped @ numpy.linalg.inv(mapped), numpy.eye(300)))

def pictures():
    import io
    from PIL import Image
    image = Image.new("RGB", (300, 200), "red").resize((30, 20), Image.Resampling.LANCZOS)
    kept = {}
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF"):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        kept[kind] = Image.open(io.BytesIO(buffer.getvalue())).size
    return sorted(map(str, set(kept.values())))

def terminal():
    import shutil
    return [os.isatty(0), os.isatty(1), shutil.get_terminal_size((80, 24)).columns]

def descriptors():
    import fcntl, select
    near, far = os.pipe()
    flags = fcntl.fcntl(near, fcntl.F_GETFL)
    fcntl.fcntl(near, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    os.set_blocking(far, False)
    os.set_inheritable(far, True)
    copy = os.dup(near)
    poll = select.epoll()
    poll.register(copy, select.EPOLLIN)
    os.write(far, b"x")
    found = len(poll.poll(1))
    for fd in (near, far, copy): os.close(fd)
    poll.close()
    return found

def usage():
    import platform, resource, time
    return [bool(os.uname().sysname), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0,
            time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID) > 0, time.thread_time() > 0,
            os.getloadavg() is not None, bool(platform.platform()), bool(os.getrandom(4))]

def programs():
    import subprocess, sys
    text = "echo one | cat; ls /usr > /dev/null; (exit 3)"
    shell = subprocess.run(text, shell=True, capture_output=True)
    python = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True)
    slow = subprocess.Popen(["sleep", "60"])
    slow.terminate()
    pid = os.fork()
    if pid == 0:
        os._exit(5)
    forked = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        return (await process.communicate(b"through"))[0].decode()
    through = asyncio.run(main())
    return [shell.stdout.decode(), shell.returncode, python.stdout, slow.wait(), forked, through]

def process(job):
    return globals()[job.data]()
"""
_VALUES = {
    "sqlite": 4950,
    "zones": "2:00:00",
    "tls": 16,
    "files": ["b", "c", "out", "z.zip"],
    "threads": 496,
    "loop": "line\n",
    "uv": "uv",
    "native": [1, 2, 3, 4, 5],
    "arrays": True,
    "pictures": ["(30, 20)"],
    "terminal": [False, False, 80],
    "descriptors": 1,
    "usage": [True] * 7,
}


@pytest.mark.parametrize("network", [False, True])
def test_what_programs_use(tmp_path: Path, network: bool) -> None:  # noqa: FBT001 - a parameter
    """Databases, zones, TLS, files, threads, loops, C, numpy, Pillow: none of it needs a grant."""
    pytest.importorskip("numpy")
    pytest.importorskip("PIL")
    path = processor_file(tmp_path, _PROGRAMS)

    async def main() -> None:
        async with open_pool(path, policy=Policy("strict", network=network)) as caller:
            for name, value in _VALUES.items():
                assert await caller.value(name) == value, name

    run_async(main())


def test_programs_that_a_job_starts(tmp_path: Path) -> None:
    """Shells, pipes, Python, forks, asyncio's processes: with their grant."""
    path = processor_file(tmp_path, _PROGRAMS)

    async def main() -> None:
        async with open_pool(path, policy=Policy("strict", subprocess=True)) as caller:
            expected = ["one\n", 3, "42\n", -15, 5, "through"]
            assert await caller.value("programs") == expected
            for name in ("files", "threads", "loop"):
                assert await caller.value(name) == _VALUES[name], name

    run_async(main())
