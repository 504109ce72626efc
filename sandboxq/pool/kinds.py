"""Which kind of children a worker has: decided from what was asked for and what there is; pure."""

from __future__ import annotations

import enum
import sys
import sysconfig
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.errors import UsageError
from sandboxq.payload import signing

if TYPE_CHECKING:
    from sandboxq.sandbox.policy import Policy

AUTO = "auto"
# The first version with concurrent.interpreters.
_FIRST_WITH_INTERPRETERS = (3, 14)


class Kind(enum.Enum):
    """What a child is."""

    PROCESS = "process"
    THREAD = "thread"
    INTERPRETER = "interpreter"


NAMES = (AUTO, *(kind.value for kind in Kind))


class Interpreter(NamedTuple):
    """The facts of the running interpreter that decide."""

    version: tuple[int, int]
    is_free_threaded: bool  # as it was built
    has_gil: bool  # now

    def __str__(self) -> str:
        """Name it."""
        return ".".join(map(str, self.version)) + ("t" if self.is_free_threaded else "")


class Wanted(NamedTuple):
    """What a worker asks of its children."""

    isolation: str
    processor: str
    policy: Policy
    timeout: float | None = None
    max_rss: int | None = None


class Choice(NamedTuple):
    """The kind, and what the banner says of it."""

    kind: Kind
    notes: tuple[str, ...] = ()


def this_interpreter() -> Interpreter:
    """Return the facts of the interpreter that runs this."""
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    is_free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    return Interpreter(sys.version_info[:2], is_free_threaded, has_gil)


def decide(wanted: Wanted, interpreter: Interpreter) -> Choice:
    """Choose the kind of children.

    Raises:
        UsageError: what was asked for by name cannot be had, with what would help.
    """
    if wanted.isolation not in NAMES:
        message = f"isolation must be one of {', '.join(NAMES)}, not {wanted.isolation!r}"
        raise UsageError(message)
    if wanted.isolation == AUTO:
        return _automatic(wanted, interpreter)
    kind = Kind(wanted.isolation)
    if kind is Kind.PROCESS:
        return Choice(kind)
    obstacle = _obstacle(wanted)
    if obstacle:
        message = f"isolation {kind.value!r} cannot do this: {obstacle}; or use isolation 'process'"
        raise UsageError(message)
    if kind is Kind.INTERPRETER:
        return _interpreters(wanted, interpreter)
    return Choice(kind, (*_thread_notes(interpreter), *_timeout_notes(wanted)))


def _automatic(wanted: Wanted, interpreter: Interpreter) -> Choice:
    """Take threads where they use all cores and nothing is asked that a thread cannot keep."""
    if not interpreter.is_free_threaded:
        return Choice(Kind.PROCESS)
    if interpreter.has_gil:
        return Choice(Kind.PROCESS, ("processes: this free-threaded build runs with the GIL on",))
    obstacle = _obstacle(wanted)
    if not obstacle and wanted.timeout is not None:
        obstacle = "a thread that outlives its timeout cannot be killed"
    if obstacle:
        return Choice(Kind.PROCESS, (f"processes, not threads: {obstacle}",))
    return Choice(Kind.THREAD, ("threads: this build has no GIL, and policy 'none' no limits",))


def _obstacle(wanted: Wanted) -> str:
    """Return what a child that is no process cannot do, and what would help; nothing if all."""
    policy = wanted.policy
    if wanted.processor.partition(":")[0] == signing.PROCESSOR:
        return f"{signing.PROCESSOR} runs code from Redis beside the secret that it is signed with"
    if policy.name != "none":
        return (
            f"policy {policy.name!r} limits children, and only a process can be limited and "
            "killed: say policy 'none' (--policy none)"
        )
    if policy.cpu_seconds is not None or policy.environment is not None:
        return "cpu_seconds and environment are of processes: leave them out of the policy"
    if wanted.max_rss is not None:
        return "max_rss_per_child is of processes, threads share their memory: leave it out"
    return ""


def _interpreters(wanted: Wanted, interpreter: Interpreter) -> Choice:
    if interpreter.version < _FIRST_WITH_INTERPRETERS:
        message = f"isolation 'interpreter' needs Python 3.14 or later, this is {interpreter}"
        raise UsageError(message)
    note = "interpreters: experimental; numpy, Pillow and most C extensions do not load in them"
    return Choice(Kind.INTERPRETER, (note, *_timeout_notes(wanted)))


def _thread_notes(interpreter: Interpreter) -> tuple[str, ...]:
    if not interpreter.has_gil:
        return ()
    why = "GIL on" if interpreter.is_free_threaded else "one GIL"
    return (f"threads: {why} for all of them; only code that drops it runs on several cores",)


def _timeout_notes(wanted: Wanted) -> tuple[str, ...]:
    if wanted.timeout is None:
        return ()
    return ("timeouts: jobs are told; the thread of one that goes on is given up, not killed",)
