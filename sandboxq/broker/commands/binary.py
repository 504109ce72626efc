"""Stores and reads the arrays and bytes of a job or a result: one string, beside the job.

A key of its own and not fields of the job's hash, because Node reads whole hashes when it claims,
shows or lists jobs, and would load hundreds of megabytes each time. A string, because Redis copies
the field of a hash once more. Our scripts remove it together with its job
(lua/includes/binary.lua); when another client removes the job, ``sweep`` does.
"""

from __future__ import annotations

import asyncio
import mmap
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import AskError, ResponseError, TryAgainError

from sandboxq.broker.connect.connection import error_from_reply
from sandboxq.broker.connect.connection_pool import LEAST_LIMIT
from sandboxq.broker.connect.script import load
from sandboxq.errors import BinaryMissing, TooLarge
from sandboxq.payload.binary import MOST_BYTES, pieces_of, table_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.connect.connection import Connection
    from sandboxq.broker.connect.reply_stream import Buffer
    from sandboxq.broker.connect.resp import Argument
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.payload.binary import Part

# So long does what is stored live before its job names it.
PROVISIONAL_MS = 3_600_000
# Up to this size the ordinary way is the faster one: it needs no connection of its own.
_SMALL = 1 << 20
# What one round trip takes along of those.
_TRIP = 4 << 20
_COMMANDS_A_TRIP = 1000
# Seconds of silence: Redis needs some to find room for the largest strings.
_SILENCE = 30.0
# So long may a slot be on its way to another node, which is asked for so often.
_MOVE_SECONDS = 10.0
_MOVING_DELAY = 0.05
# Memory that is asked for page by page costs a fault for each; the kernel may give larger ones.
_HUGE = 4 << 20
# Keys that one script call looks at.
_SWEEP_PAGE = 100
_SWEEP_PAGES = 30
FIRST_PAGE = b"0"
_GONE = "it was removed, or expired because no worker of its queue ran for 30 days"


class Reference(NamedTuple):
    """Where a blob is, and the table of what is in it (sandboxq.payload.binary)."""

    key: str
    size: int
    table: str

    def text(self) -> str:
        """Return it as it stands in a job's hash."""
        return f"{self.key}\n{self.size}\n{self.table}"


def reference_from_text(text: str) -> Reference:
    """Return what ``Reference.text`` wrote. Raises: BinaryMissing when it is something else."""
    try:
        key, size, table = text.split("\n", 2)
        reference = Reference(key, int(size), table)
    except ValueError:
        reference = None
    if reference is None or not 0 <= reference.size <= MOST_BYTES:
        message = f"{text!r:.200} is no reference to stored arrays and bytes"
        raise BinaryMissing(message)
    return reference


def new_reference(keys: QueueKeys, size: int, table: str) -> Reference:
    """Return a reference to a new key that cannot be guessed."""
    return Reference(keys.binary(secrets.token_hex(16)), size, table)


async def store_all(
    broker: Broker, wanted: Sequence[tuple[QueueKeys, Sequence[Part]]]
) -> list[Reference]:
    """Store a blob for each list of parts, small ones together; see ``store``."""
    references: list[Reference] = []
    commands: list[tuple[Argument, ...]] = []
    gathered = 0
    for keys, parts in wanted:
        pieces = pieces_of(parts)
        table = table_text([part.entry for part in parts])
        reference = new_reference(keys, sum(map(len, pieces)), table)
        references.append(reference)
        if reference.size > _SMALL:
            await store(broker, reference, pieces)
            continue
        commands.append(("PSETEX", reference.key, PROVISIONAL_MS, b"".join(pieces)))
        gathered += reference.size
        if gathered > _TRIP or len(commands) == _COMMANDS_A_TRIP:
            await broker.pipeline(commands)
            commands, gathered = [], 0
    await broker.pipeline(commands)
    return references


async def store(broker: Broker, reference: Reference, pieces: Sequence[Buffer]) -> None:
    """Write a blob, for PROVISIONAL_MS until a job names it.

    Raises: BrokerUnavailable; TooLarge, QueueError when Redis refuses.
    """
    command = ("PSETEX", reference.key, str(PROVISIONAL_MS))
    if reference.size > LEAST_LIMIT:
        limit = await broker.most_bytes()
        if reference.size > limit:
            message = (
                f"arrays and bytes of {reference.size} bytes are more than the {limit} that this "
                "Redis takes in one value (proto-max-bulk-len)"
            )
            raise TooLarge(message)
    if reference.size <= _SMALL:
        await broker.command(*command, b"".join(pieces))
        return
    await _exchange(
        broker, reference.key, lambda link: link.send_large(command, pieces, timeout=_SILENCE)
    )


async def fetch(
    broker: Broker, reference: Reference, allocate: Callable[[int], memoryview] | None = None
) -> memoryview:
    """Return a blob, in the memory that ``allocate`` gives, by default fresh memory.

    Raises: BrokerUnavailable; BinaryMissing when it is gone or of another size.
    """
    command: tuple[Argument, ...] = ("GET", reference.key)
    if 0 <= reference.size <= _SMALL:  # one byte more would tell of more; nobody sends us that much
        command = ("GETRANGE", reference.key, 0, reference.size)
    return await _read(broker, command, reference.size, allocate or fresh_memory)


async def fetch_part(broker: Broker, reference: Reference, *, start: int, size: int) -> memoryview:
    """Return ``size`` bytes of a blob. Raises: as ``fetch``."""
    if not size:
        return memoryview(b"")
    command = ("GETRANGE", reference.key, start, start + size - 1)
    return await _read(broker, command, size, fresh_memory)


async def _read(
    broker: Broker,
    command: Sequence[Argument],
    expected: int,
    allocate: Callable[[int], memoryview],
) -> memoryview:
    """Return the string that a command replies, of the size that is expected."""

    def checked(size: int) -> memoryview:
        if size != expected:
            message = f"{command[1]!s} should have {expected} bytes and has {size}: {_GONE}"
            raise BinaryMissing(message)
        return allocate(size)

    if expected <= _SMALL:
        raw = await broker.command(*command)
        view = checked(len(raw or b""))
        view[:] = raw or b""
        return view
    blob: memoryview | None = await _exchange(
        broker,
        str(command[1]),
        lambda link: link.receive_large(command, checked, timeout=_SILENCE),
    )
    if blob is None:
        message = f"there is no {command[1]!s}: {_GONE}"
        raise BinaryMissing(message)
    return blob


async def _exchange(
    broker: Broker, key: str, exchange: Callable[[Connection], Awaitable[Any]]
) -> Any:
    """Return the reply of one exchange over a new connection to the server that has the key.

    A command that a cluster's node passed on did not run: it is sent again to the key's owner.
    """
    clock = asyncio.get_running_loop().time
    ends_at = clock() + _MOVE_SECONDS
    while True:
        link = await broker.open_link(key)
        try:
            reply = await exchange(link)
        finally:
            await link.drop()
        if not isinstance(reply, ResponseError):
            return reply
        await broker.heed(reply)
        if not isinstance(reply, (AskError, TryAgainError)) or clock() > ends_at:
            raise error_from_reply(reply) from reply
        await asyncio.sleep(_MOVING_DELAY)


async def note(broker: Broker, keys: QueueKeys, reference: Reference, job_id: bytes) -> None:
    """Note which job a blob is for, so that ``sweep`` finds it if no job ever names it."""
    await broker.command("HSET", keys.binaries, reference.key, job_id)


async def drop(broker: Broker, references: Iterable[Reference]) -> None:
    """Remove blobs that no job names. Raises: BrokerUnavailable."""
    commands = [("UNLINK", reference.key) for reference in references]
    await broker.pipeline(commands)


async def sweep(broker: Broker, keys: QueueKeys, cursor: bytes = FIRST_PAGE) -> tuple[int, bytes]:
    """Remove the blobs of jobs that are gone, renew the others.

    Return how many were removed, and the cursor of the next sweep: one checks some thousands.
    Raises: BrokerUnavailable, QueueError.
    """
    removed = 0
    for _ in range(_SWEEP_PAGES):
        args = (cursor, _SWEEP_PAGE)
        cursor, count = await broker.script(load("sweep_binaries"), [keys.base], args)
        removed += int(count)
        if cursor == FIRST_PAGE:
            break
    return removed, cursor


def fresh_memory(size: int) -> memoryview:
    """Return new memory, in large pages where the kernel has them."""
    if size < _HUGE:
        return memoryview(bytearray(size))
    memory = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            return memoryview(memory)  # a kernel without them
    return memoryview(memory)
