"""The child's life: ready, then a call and its answer, until it is retired."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.child import interrupts, output
from sandboxq.child.activity_page import LATEST
from sandboxq.child.failure import failure_from, move_from
from sandboxq.child.frames import (
    CALL,
    CALLS,
    CANCEL_TOLD,
    DONE,
    ENDS_CHILD,
    FAILED,
    HAS_BLOB,
    HAS_OUTPUT,
    MESSAGE_LIMIT,
    MICROSECONDS_LIMIT,
    MOVE,
    OUT_OF_MEMORY,
    PING,
    PONG,
    READY,
    RETIRE,
    RETURNED,
    START_FAILED,
    BlobPlace,
    decode_calls,
    encode_blob,
    encode_failure,
    encode_move,
)
from sandboxq.child.job import Job
from sandboxq.child.leftovers import HEARD_NOTHING, Leaving, Leftovers
from sandboxq.child.packets import LARGEST, LONG_US, TOKEN_SIZE, AnswerBuffer
from sandboxq.child.process_state import states_as_forked, states_now
from sandboxq.child.values import NotJson, json_from_value, without_parts
from sandboxq.errors import ResultTooLarge
from sandboxq.model.job_limits import DEFAULT_BUDGETS
from sandboxq.payload.binary import blob_size, pieces_of, table_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandboxq.child.link import Link
    from sandboxq.child.loader import Processor
    from sandboxq.child.process_state import States
    from sandboxq.payload.binary import Part


class Settings(NamedTuple):
    """What a child is told at its start; ``memory`` is what its policy grants, in bytes."""

    queue_name: str
    concurrency: int
    memory: int | None
    max_result: int = MESSAGE_LIMIT
    policy: str = "none"
    budgets: Sequence[float] = DEFAULT_BUDGETS  # as a plain sequence: see Budgets
    scratch: str = ""  # the folder that was made for its temporary files, if one was
    # Whether what jobs leave is cleared: not for children of one job, nor for threads.
    is_tidied: bool = False
    may_leave_processes: bool = False
    withholds_redis: bool = False  # asked by threads alone


def serve(link: Link, processor: Processor, settings: Settings, capture: output.Capture) -> None:
    """Run one call after the other, until the coordinator retires this child or is gone."""
    soft = interrupts.Interrupts(link.cancels)
    soft.install(link)
    if not start(link, processor.setup):
        return
    if settings.is_tidied:
        states = states_as_forked() if processor.setup is None else states_now()
        link.leftovers = leftovers_of(link, settings, states)
    held = AnswerBuffer(link)
    serve_calls(
        link,
        runner(link, processor, settings, capture, soft),
        packet_runner(link, processor, settings, capture, soft, held),
    )
    if processor.teardown is not None:
        processor.teardown()


def leftovers_of(link: Link, settings: Settings, states: States) -> Leftovers:
    """Return who looks after jobs, now that setup() has run."""
    leftovers = Leftovers(
        link,
        states,
        memory=settings.memory,
        scratch=settings.scratch,
        may_leave_processes=settings.may_leave_processes,
    )
    leftovers.listen()
    return leftovers


def start(link: Link, setup: Any) -> bool:
    """Run the processor's setup and say READY, or say what went wrong."""
    try:
        if setup is not None:
            setup()
    except BaseException as error:  # noqa: BLE001 - user code; whatever it is, the coordinator hears it
        report_failed_start(link, "setup()", error)
        return False
    link.send(READY, 0, usage=link.meter.read())
    return True


def report_failed_start(link: Link, where: str, error: BaseException) -> None:
    """Tell the coordinator why this child cannot run jobs."""
    failure = failure_from(error)
    reason = f"{where} failed: {failure.cause}: {failure.reason}"
    link.send(START_FAILED, 0, encode_failure(reason, failure.stack, failure.cause))


def serve_calls(
    link: Link,
    run: Callable[[bytes, int], None],
    run_packet: Callable[[list[bytes], int], None],
) -> None:
    """Run calls until the coordinator retires this child, or the child must leave."""
    with suppress(Leaving):
        while True:
            try:
                message = link.receive()
            except BlockingIOError:
                assert link.leftovers is not None  # noqa: S101 - else nobody has set a time
                link.leftovers.catch_up()
                continue
            if message is None:
                link.leave()
            kind, seq, payload = message
            if kind == CALL:
                run(payload, seq)
            elif kind == CALLS:
                run_packet(decode_calls(payload), seq)
            elif kind == PING:
                link.send(PONG, 0)
            elif kind == RETIRE:
                return


def runner(
    link: Link,
    processor: Processor,
    settings: Settings,
    capture: output.Capture,
    soft: interrupts.Interrupts,
) -> Callable[[bytes, int], None]:
    """Return what runs one call, and looks after it."""
    streams, leftovers = (sys.stdout, sys.stderr), link.leftovers

    def run(payload: bytes, seq: int) -> None:
        sys.stdout, sys.stderr = streams  # the job before may have put others in their place
        ended = run_call(link, processor, settings, capture, soft, payload, seq)
        if leftovers is not None:
            if ended > leftovers.due:
                leftovers.look_after(seq)
            elif not leftovers.is_behind:
                leftovers.fall_behind()

    return run


def packet_runner(  # noqa: C901 - see below
    link: Link,
    processor: Processor,
    settings: Settings,
    capture: output.Capture,
    soft: interrupts.Interrupts,
    held: AnswerBuffer,
) -> Callable[[list[bytes], int], None]:
    """Return what runs the calls of a packet, as far as the coordinator leaves them to us.

    It does what ``runner`` does. What the shortest jobs cost is what is around them: all that they
    need stands here, in one loop, and who does more than return a value goes the long way.
    """
    clock, take_token, getpid = time.perf_counter_ns, os.read, os.getpid
    words, tokens, pid = link.mark.words, link.tokens, os.getpid()
    function, queue_name = processor.function, settings.queue_name
    reports, cancels = link.reports, link.cancels
    streams, leftovers = (sys.stdout, sys.stderr), link.leftovers
    unheard = leftovers.unheard if leftovers is not None else dict.fromkeys(range(HEARD_NOTHING))
    has_unread_output = output.has_unread_output

    def run(calls: list[bytes], first: int) -> None:
        link.held = held
        for seq, payload in enumerate(calls, first):
            try:
                take_token(tokens, TOKEN_SIZE)
            except OSError:  # it was taken back; or a job has closed what it is read from
                link.answer(RETURNED, seq, b"", detail=first + len(calls) - seq)
                break
            link.has_spoken = False
            sys.stdout, sys.stderr = streams  # the job before may have put others in their place
            capture.begin(seq)
            started = clock()
            try:
                job = Job(payload, seq, link=link, queue_name=queue_name)
                words[LATEST] = seq  # see ActivityPage.begin
                try:
                    soft.armed = seq
                    returned = function(job)
                finally:
                    # An interrupt just before this is still within the outer ``try``.
                    soft.armed = 0
                value, flags = _NOTHING
                if returned is not None:
                    value, flags = result_from(job.with_parts(returned), link, settings)
            except BaseException as error:  # noqa: BLE001 - around the processor
                tell_failure(link, seq, error, settings=settings, capture=capture, started=started)
                ended = clock()
            else:
                ended = clock()
                microseconds = (ended - started) // 1000
                if (
                    flags
                    or link.has_spoken
                    or len(value) > LARGEST
                    or microseconds >= LONG_US
                    or getpid() != pid
                    or capture.has_text
                    or reports.said
                    or len(unheard) < HEARD_NOTHING
                    or cancels.told
                    or has_unread_output()
                ):
                    ended = tell_value(link, seq, (value, flags), capture=capture, started=started)
                else:
                    capture.end(seq)
                    held.add(seq, value, microseconds, started, ended)
            if leftovers is not None:
                if ended > leftovers.due:
                    leftovers.look_after(seq)
                elif not leftovers.is_behind:
                    leftovers.fall_behind()
        held.flush()
        link.held = None

    return run


# What a job has that returns nothing.
_NOTHING = b"null", 0


def run_call(
    link: Link,
    processor: Processor,
    settings: Settings,
    capture: output.Capture,
    soft: interrupts.Interrupts,
    payload: bytes,
    seq: int,
) -> int:
    """Run one call and answer it; return when it ended, in nanoseconds of perf_counter."""
    capture.begin(seq)
    started = time.perf_counter_ns()
    try:
        job = Job(payload, seq, link=link, queue_name=settings.queue_name)
        link.begin(seq)
        try:
            soft.armed = seq
            returned = processor.function(job)
        finally:
            soft.armed = 0  # an interrupt just before this is still within the outer ``try``
        if returned is not None:
            returned = job.with_parts(returned)
        value = result_from(returned, link, settings)
    except BaseException as error:  # noqa: BLE001 - around the processor
        tell_failure(link, seq, error, settings=settings, capture=capture, started=started)
        return time.perf_counter_ns()
    return tell_value(link, seq, value, capture=capture, started=started)


# A processor's value: the payload of its DONE, and flags.
Result = tuple[bytes, int]


def result_from(value: object, link: Link, settings: Settings) -> Result:
    """Return a processor's value as JSON, its arrays and bytes in the arena.

    Raises:
        NotJson: it has something that is neither.
        ResultTooLarge: it is larger than the worker takes, or than a message may be.
    """
    try:
        raw = json_from_value(value, "the return value")
    except NotJson:
        raw, parts = without_parts(value)
        if not parts:
            raise
        return _result_with(raw, parts, link, settings)
    if len(raw) > settings.max_result or len(raw) > MESSAGE_LIMIT:
        limit = min(settings.max_result, MESSAGE_LIMIT)
        message = f"the return value has {len(raw)} bytes of JSON, the limit is {limit}"
        raise ResultTooLarge(message)
    return raw, 0


def _result_with(raw: bytes, parts: list[Part], link: Link, settings: Settings) -> Result:
    if not link.is_ours():
        os._exit(0)  # a process that the job forked: the arena is not its own
    entries = [part.entry for part in parts]
    size = blob_size(entries)
    if size + len(raw) > settings.max_result or len(raw) > MESSAGE_LIMIT:
        message = (
            f"the return value has {size} bytes of arrays and bytes and {len(raw)} of JSON, "
            f"the limit is {settings.max_result}"
        )
        raise ResultTooLarge(message)
    assert link.arena is not None  # noqa: S101 - every child has one
    offset = link.arena.write(pieces_of(parts), size)
    place = BlobPlace(offset, size, table_text(entries).encode())
    return encode_blob(place) + raw, HAS_BLOB


def tell_value(
    link: Link, seq: int, value: Result, *, capture: output.Capture, started: int
) -> int:
    """Answer a call with what its processor returned; a process that it forked just ends.

    Return when the call ended, in nanoseconds of perf_counter.
    """
    if not link.is_ours():
        os._exit(0)
    payload, flags = value
    flags |= _end(link, seq, capture)
    ended = time.perf_counter_ns()
    microseconds = (ended - started) // 1000
    if microseconds > MICROSECONDS_LIMIT:  # noqa: PLR1730 - half the time of min()
        microseconds = MICROSECONDS_LIMIT
    held = link.held
    if held is not None and not flags and held.takes(payload, microseconds):
        held.add(seq, payload, microseconds, started, ended)
    else:
        link.end(DONE, seq, payload, microseconds, flags)
    return ended


def tell_failure(
    link: Link,
    seq: int,
    error: BaseException,
    *,
    settings: Settings,
    capture: output.Capture,
    started: int,
    ends_child: bool = False,
) -> None:
    """Answer a call with what its processor raised; after a MemoryError, leave.

    A process that the job forked answers nothing: it prints the trace and ends.
    """
    microseconds = min((time.perf_counter_ns() - started) // 1000, MICROSECONDS_LIMIT)
    if not link.is_ours():
        os.write(2, failure_from(error).stack.encode("utf-8", "backslashreplace"))
        os._exit(1)
    move = move_from(error)
    if move is not None and not move.is_within(link.budgets):
        error, move = move.refusal(link.budgets), None
    if move is not None:
        flags = _end(link, seq, capture)
        payload = encode_move(move.duration_ms)
        link.end(MOVE, seq, payload, microseconds, flags, move.target)
        return
    most = link.budgets.failure_text
    failure = failure_from(error, memory=settings.memory, policy=settings.policy, most=most)
    del error
    more = ENDS_CHILD if ends_child else 0
    flags = (failure.flags | more) & ~link.withheld | _end(link, seq, capture)
    payload = encode_failure(failure.reason, failure.stack, failure.cause)
    link.end(FAILED, seq, payload, microseconds, flags)
    if flags & (OUT_OF_MEMORY | ENDS_CHILD):
        os._exit(0)


def _end(link: Link, seq: int, capture: output.Capture) -> int:
    """Forget a call; return the flags that its answer has however it ended."""
    has_written = capture.end(seq)
    if link.reports.said:
        link.reports.end(seq)
        link.logged.discard(seq)
    leftovers = link.leftovers
    if leftovers is not None and len(leftovers.unheard) < HEARD_NOTHING:
        leftovers.heed(seq)
    has_output = link.has_pipes and (has_written or output.has_unread_output())
    flags = HAS_OUTPUT if has_output else 0
    if link.cancels.told and link.cancels.forget(seq):
        flags |= CANCEL_TOLD
    return flags
