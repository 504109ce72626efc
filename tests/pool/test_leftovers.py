"""What a job leaves behind does not reach the next one of its child."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Policy
from sandboxq.child import leftover_kinds
from sandboxq.errors import UsageError
from sandboxq.model.outcome import Completed, HandedBack
from sandboxq.observe.telemetry import ChildRecycled
from sandboxq.pool.outcomes import Unstored
from sandboxq.sandbox.processes import children_of, living
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import open_pool

if TYPE_CHECKING:
    from tests.pool.caller import Caller

PROCESSOR = """
import builtins, ctypes, decimal, fcntl, gc, locale, logging, mmap, os, resource, signal, socket
import subprocess, sys, tempfile, threading, time, warnings
keep = []
memory = os.memfd_create("memory")
os.ftruncate(memory, 100)
own = open(__file__)

def process(job):
    do, *arguments = job.data
    return globals()[do](*arguments)

def pid(): return os.getpid()

# ── what it leaves ──
def chdir(): os.chdir("/")
def umask(): os.umask(0o777)
def environment():
    os.environ["LEFT"] = "1"
    os.environ.pop("PATH", None)
def handler(): signal.signal(signal.SIGUSR1, lambda *_: None)
def ignored(): signal.signal(signal.SIGCHLD, signal.SIG_IGN)
def mask(): signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
def alarm(): signal.alarm(1)
def timer(): signal.setitimer(signal.ITIMER_VIRTUAL, 0.05)
def path(): sys.path.insert(0, "/nowhere")
def precision(): decimal.getcontext().prec = 3
def recursion(): sys.setrecursionlimit(90)
def timeout(): socket.setdefaulttimeout(0.001)
def no_gc(): gc.disable()
def cores(): os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
def hooks(): sys.excepthook = threading.excepthook = None
def limit(): resource.setrlimit(resource.RLIMIT_NOFILE, (20, resource.getrlimit(7)[1]))
def hard_limit(): resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
def nice(): os.nice(5)
def zone():
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
def scheduler(): os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
def no_wait(): os.set_blocking(1, False)
def patched():
    builtins.print = None
    del builtins.sorted
def silent(): logging.disable()
def fatal(): warnings.simplefilter("error")
def digits(): sys.set_int_max_str_digits(0)
def small_stacks(): threading.stack_size(65536)
def saving(): gc.set_debug(gc.DEBUG_SAVEALL)
def traced():
    threading.settrace(print)
    threading.setprofile(print)
def arguments(): sys.argv[1:] = ["--left"]
def streams():
    os.close(1)
    os.close(2)
def fds(count):
    for _ in range(count): keep.append(open("/dev/null"))
def few_fds(): keep.append(open("/dev/null"))
def pipes(): keep.extend(os.pipe() for _ in range(40))
def lock(path):
    file = open(path, "a")
    fcntl.flock(file, fcntl.LOCK_EX)
    keep.append(file)
def port():
    server = socket.create_server(("127.0.0.1", 0))
    keep.append(server)
def unlinked():
    file = tempfile.TemporaryFile()
    file.write(b"x" * 1000)
    keep.append(file)
def returned(): return b"x" * 100
def mapped(): keep.append(mmap.mmap(memory, 100))
def doubled(): keep.append(os.dup(memory))
def circle():
    files = [open("/dev/null") for _ in range(100)]
    files.append(files)
def temporary():
    os.close(tempfile.mkstemp()[0])
    os.makedirs(os.path.join(tempfile.mkdtemp(), *"abc"))
    os.symlink("/etc", os.path.join(tempfile.gettempdir(), "link"))
def sleeper(): return subprocess.Popen(["sleep", "300"]).pid
def session():
    script = "setsid sleep 300 & setsid setsid sleep 300 & wait"
    subprocess.Popen(["sh", "-c", script], start_new_session=True)
    time.sleep(0.2)
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork(): os._exit(0)
        os.execvp("sleep", ["sleep", "300"])
    os.wait()
def zombie():
    pid = os.fork()
    if pid == 0: os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
def spawned_by_c(): ctypes.CDLL(None).system(b"sleep 300 &")
def multi():
    import multiprocessing
    from multiprocessing import shared_memory
    keep.append(multiprocessing.Pool(2))
    shared_memory.SharedMemory(create=True, size=100).close()
def use_multi(): keep[-1].map(len, ["ab"])
def tree_and_sleep():
    subprocess.Popen(["sh", "-c", "sleep 300 & sleep 300"])
    time.sleep(60)
def thread():
    threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
def own_thread():
    def wait(): time.sleep(300)
    threading.Thread(target=wait, daemon=True).start()
def busy():
    threading.Thread(target=lambda: [x for x in iter(int, 1)], daemon=True).start()
def later(): threading.Timer(0.5, os._exit, (9,)).start()
def hog(mb): keep.append(bytearray(mb << 20))
def use(mb): return len(bytearray(mb << 20))

# ── what the next one sees ──
def umask_now():
    was = os.umask(0)
    os.umask(was)
    return was
def state():
    return [
        os.getcwd(), umask_now(), sys.path,
        sorted(item for item in os.environ.items() if item[0] not in ("TMPDIR", "SANDBOXQ_CHILD")),
        str(signal.getsignal(signal.SIGUSR1)), str(signal.getsignal(signal.SIGCHLD)),
        sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), decimal.getcontext().prec,
        sys.getrecursionlimit(), socket.getdefaulttimeout(), gc.isenabled(),
        sorted(os.sched_getaffinity(0)), sys.excepthook.__name__,
        resource.getrlimit(resource.RLIMIT_NOFILE), os.getpriority(os.PRIO_PROCESS, 0),
        signal.getitimer(signal.ITIMER_REAL), signal.getitimer(signal.ITIMER_VIRTUAL),
        [os.fstat(fd).st_mode for fd in (0, 1, 2)], os.listdir(tempfile.gettempdir()),
        threading.active_count(), time.tzname, os.sched_getscheduler(0), os.get_blocking(1),
        str(builtins.print), logging.root.manager.disable, [rule[0] for rule in warnings.filters],
        sys.get_int_max_str_digits(), threading.stack_size(), gc.get_debug(), sys.argv,
        str(threading.gettrace()), str(threading.getprofile()),
    ]
def files(): return len(os.listdir("/proc/self/fd"))
"""

CLEARED = [
    "chdir umask environment handler ignored mask alarm timer path precision recursion timeout",
    "no_gc cores hooks limit temporary sleeper session daemon zombie circle later",
    "zone scheduler no_wait patched silent fatal digits small_stacks saving traced arguments",
]
REPLACED = ["hard_limit", "streams", "pipes", "port", "unlinked", "own_thread", "busy"]


@pytest.fixture
def processor(tmp_path: Path) -> Path:
    """Return the file of a processor whose jobs leave what they are told to."""
    path = tmp_path / "leaves.py"
    path.write_text(PROCESSOR)
    return path


def left_running(caller: Caller) -> list[int]:
    """Return the processes below children."""
    below = [pid for child in caller.pool.pids for pid in children_of(child)]
    return living(below)


def shared_memory() -> set[str]:
    """Return the names of what multiprocessing has in shared memory."""
    return {path.name for path in Path("/dev/shm").glob("psm_*")}


@pytest.mark.parametrize("do", " ".join(CLEARED).split())
def test_what_is_left_is_cleared(
    processor: Path, do: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In the same child; the next job sees what the first one saw."""

    async def main() -> None:
        async with open_pool(processor, policy="limits") as caller:
            pid, before = await caller.value(["pid"]), await caller.value(["state"])
            assert await caller.value(["files"])
            for _ in range(2):
                await caller.value([do])
                assert await caller.value(["state"]) == before
                assert left_running(caller) == []
            assert await caller.value(["pid"]) == pid

    with caplog.at_level(logging.WARNING, "sandboxq.pool"):
        run_async(main())
    said = [record.getMessage() for record in caplog.records if "left" in record.getMessage()]
    kinds = {"zombie": 0, "circle": 0, "later": 0, "zone": 2}  # a variable, and what follows it
    assert len(said) == kinds.get(do, 1), said


@pytest.mark.parametrize("do", REPLACED)
def test_what_cannot_be_cleared_ends_its_child(processor: Path, do: str) -> None:
    """After its answer; the next job has another one."""

    async def main() -> None:
        async with open_pool(processor, policy="limits") as caller:
            pid, before = await caller.value(["pid"]), await caller.value(["state"])
            assert await caller.value([do]) is None
            assert await caller.value(["state"]) == before
            assert await caller.value(["pid"]) != pid
            assert [event.why for event in caller.events if isinstance(event, ChildRecycled)]

    run_async(main())


@pytest.mark.parametrize("do", ["returned", "mapped", "doubled"])
def test_another_descriptor_of_a_file_that_was_there_may_stay(processor: Path, do: str) -> None:
    """A mapping has one of its own: of memory that is shared with the coordinator, or is ours."""

    async def main() -> None:
        async with open_pool(processor, policy="limits") as caller:
            pid = await caller.value(["pid"])
            for _ in range(2):
                outcome = await caller.run([do])
                assert isinstance(outcome, Completed)
                if isinstance(outcome, Unstored):
                    outcome.blob = None
            assert await caller.value(["pid"]) == pid

    run_async(main())


def test_a_working_directory_that_others_remove(
    processor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment does that to the release before: children that start later have none."""
    folder = tmp_path / "release"
    folder.mkdir()
    monkeypatch.chdir(folder)

    async def main() -> None:
        async with open_pool(processor, policy="limits") as caller:
            await caller.value(["few_fds"])
            folder.rmdir()
            for _ in range(3):
                await caller.value(["few_fds"])
            pid = await caller.value(["pid"])
            for _ in range(3):
                await caller.value(["few_fds"])
            assert await caller.value(["pid"]) == pid

    run_async(main())


def test_leaked_descriptors_fail_nobody(processor: Path, tmp_path: Path) -> None:
    """Thousands at once, some each time, or one that holds a lock; a few are a connection."""

    async def main() -> None:
        async with open_pool(processor, policy="limits") as caller:
            pid = await caller.value(["pid"])
            await caller.value(["few_fds"])
            assert await caller.value(["pid"]) == pid
            await caller.value(["fds", 3000])
            assert await caller.value(["files"]) < 50
            for _ in range(60):
                await caller.value(["fds", 5])
            assert await caller.value(["files"]) < 60
            for path in (tmp_path / "lock", processor):  # the second was open before
                for _ in range(3):
                    await caller.value(["lock", str(path)])

    run_async(main())


def test_what_c_code_starts_is_ended_too(processor: Path) -> None:
    """Nothing tells of it: it is found at the next look."""

    async def main() -> None:
        async with open_pool(processor, policy="limits") as caller:
            await caller.value(["spawned_by_c"])
            assert await caller.value(["pid"])

            async def is_ended() -> bool:
                return left_running(caller) == []

            await wait_until_async(is_ended)

    run_async(main())


def test_pools_of_processes_go_and_can_be_made_again(processor: Path) -> None:
    """The helpers of multiprocessing are made anew, and leaked shared memory is freed."""

    async def main() -> None:
        before = shared_memory()
        async with open_pool(processor, policy="limits") as caller:
            await caller.value(["multi"])
            failure = await caller.failure(["use_multi"])
            assert "Pool not running" in failure.reason
            for _ in range(3):
                await caller.value(["multi"])
                assert await caller.value(["pid"])
                assert left_running(caller) == []
            assert not any("died unexpectedly" in line for _, _, line in caller.lines), caller.lines
        assert shared_memory() <= before

    run_async(main())


@pytest.mark.parametrize("name", ["timeout", "cancel"])
def test_the_tree_ends_with_a_soft_end(processor: Path, name: str) -> None:
    """The child lives on, and what the job had started does not."""

    async def main() -> None:
        async with open_pool(processor, policy="limits") as caller:
            pid = await caller.value(["pid"])
            call = caller.submit(
                ["tree_and_sleep"], timeout=1.0 if name == "timeout" else None, grace=8
            )
            await caller.until_begun(call)
            if name == "cancel":
                from sandboxq.errors import JobCancelled

                await wait_until_async(lambda: _has_some(caller))
                caller.pool.cancel_call(call, JobCancelled("enough"), grace=8)
            await caller.outcome(call)
            assert left_running(caller) == []
            assert await caller.value(["pid"]) == pid

    run_async(main())


async def _has_some(caller: Caller) -> bool:
    return len(left_running(caller)) > 0


def test_memory_that_others_left_is_nobody_elses_fault(processor: Path) -> None:
    """Who runs out because of it goes back, runs again in another child, and succeeds there."""

    async def main() -> None:
        policy = Policy("limits", memory=400 << 20)
        async with open_pool(processor, policy=policy) as caller:
            for _ in range(3):
                await caller.value(["hog", 250])
                first = await caller.run(["use", 300])
                assert isinstance(first, HandedBack), first
                assert (first.was_started, first.is_neighbour) == (True, True)
                assert isinstance(await caller.run(["use", 300]), Completed)
            for _ in range(20):
                await caller.value(["hog", 60])  # leaks: children are replaced before they are full
            failed = await caller.failure(["use", 1000])
            assert failed.cause == "JobMemoryExceeded"

    run_async(main())


def test_leave_processes_leaves_them(processor: Path) -> None:
    """For jobs whose work it is to start something; they end with their child."""

    async def main() -> None:
        policy = Policy("limits", leave_processes=True)
        async with open_pool(processor, policy=policy) as caller:
            pid = await caller.value(["sleeper"])
            assert await caller.value(["pid"])
            assert pid in left_running(caller)

    run_async(main())


def test_leave_processes_is_true_or_false() -> None:
    """A text would be true, whatever it says."""
    with pytest.raises(UsageError, match="leave_processes"):
        Policy("limits", leave_processes="no")  # type: ignore[arg-type]  # that is the test


def test_jobs_of_microseconds_are_looked_after(processor: Path) -> None:
    """Between others in one packet, too, and when no other comes."""

    async def main() -> None:
        async with open_pool(processor, policy="limits") as caller:
            home = (await caller.value(["state"]))[0]
            for _ in range(200):
                await caller.value(["pid"])
            calls = caller.submit_all([["pid"] if i % 10 else ["chdir"] for i in range(300)])
            states = caller.submit_all([["state"]] * 5)
            for call in [*calls, *states]:
                assert isinstance(await caller.outcome(call), Completed)
            found: Any = [await caller.value(["state"]) for _ in range(3)]
            assert {state[0] for state in found} == {home}
            await caller.value(["streams"])
            assert isinstance(await caller.run(["pid"]), Completed)

    run_async(main())


def test_a_child_that_dies_idle_dies_for_no_job(tmp_path: Path) -> None:
    """What it writes then is no line of the call that it was about to begin."""
    path = tmp_path / "dies.py"
    path.write_text(
        "import os, signal, threading, time\n"
        "def process(job):\n"
        "    if job.data == 'later':\n"
        "        threading.Timer(0, die).start()\n"
        "        time.sleep(0.2)\n"
        "    return os.getpid()\n"
        "def die():\n"
        "    time.sleep(0.5)\n"
        "    os.kill(os.getpid(), signal.SIGSEGV)\n"
    )

    async def main() -> None:
        async with open_pool(path, policy=Policy("strict", fresh=False)) as caller:
            pid = await caller.value("now")
            await caller.value("later")

            async def is_gone() -> bool:
                return pid not in caller.pool.pids

            await wait_until_async(is_gone)
            assert isinstance(await caller.run("now"), Completed)
            assert all(key is None for key, _, _ in caller.lines), caller.lines

    run_async(main())


def test_one_of_a_kind_is_told_in_the_singular() -> None:
    """``left 1 processes`` is what most people would see."""
    assert leftover_kinds.text_of(leftover_kinds.PROCESSES, 1) == "1 process"
    assert leftover_kinds.text_of(leftover_kinds.DESCRIPTORS, 1) == "1 open file"
    assert leftover_kinds.text_of(leftover_kinds.THREADS, 2) == "2 threads"


HOOKED = """
import locale, logging, os, signal, sys, time, warnings

def after():
    os.umask(0o077)
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    sys.path.append("/by/the/hook")
    logging.disable(logging.INFO)
    warnings.simplefilter("error", BytesWarning)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    os.chdir("/")

locale.setlocale(locale.LC_ALL, "C")
os.register_at_fork(after_in_child=after)

def process(job):
    if job.data == "pid":
        return os.getpid()
    if job.data == "leave":
        os.umask(0)
        logging.disable(logging.CRITICAL)
        return None
    umask = os.umask(0)
    os.umask(umask)
    return [
        umask, locale.setlocale(locale.LC_ALL), time.tzname[0], sys.path[-1],
        logging.root.manager.disable, warnings.filters[0][0],
        signal.SIGUSR2 in signal.pthread_sigmask(signal.SIG_BLOCK, []), os.getcwd(),
    ]
"""


@pytest.mark.parametrize("setup", ["", "\ndef setup(): pass\n"], ids=["forked", "setup"])
def test_what_hooks_of_fork_set_is_left_by_no_job(tmp_path: Path, setup: str) -> None:
    """They make a child as the user wants it, after what was remembered for all children."""
    path = tmp_path / "hooked.py"
    path.write_text(HOOKED + setup)
    set_by_hook = [0o077, "C.UTF-8", "JST", "/by/the/hook", logging.INFO, "error", True, "/"]

    async def main() -> None:
        async with open_pool(path, policy="none") as caller:
            pid = await caller.value("pid")
            for _ in range(2):
                assert await caller.value("look") == set_by_hook
            await caller.value("leave")
            assert await caller.value("look") == set_by_hook
            assert await caller.value("pid") == pid

    run_async(main())
