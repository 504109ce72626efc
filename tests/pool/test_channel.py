"""Packets: back-pressure, messages of several packets, and taking them back."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import Any

import pytest

from sandboxq.child.activity_page import ActivityPage, open_mark
from sandboxq.child.cancels import Cancels, open_cancels
from sandboxq.child.frames import CALL, CHUNK_SIZE, DONE, LOG, MESSAGE_LIMIT, NOT_MEASURED, REPLY
from sandboxq.child.link import Link
from sandboxq.pool.breach import Flooded
from sandboxq.pool.transport.channel import Channel
from tests.conftest import run_async


class _Pair:
    """A channel and, on the other side of a dup, the link of a child that is not there."""

    def __init__(self) -> None:
        """Open both."""
        self.received: list[tuple[Any, ...]] = []
        self.loop = asyncio.get_running_loop()
        self.channel = Channel(self.loop, lambda *parts: self.received.append(parts))
        far = os.dup(self.channel.far_fileno())
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=far)
        mark = open_mark()
        self.mark = ActivityPage(mark)
        os.close(mark)
        self.pipe = open_cancels()
        self.answers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link = Link(self.socket, self.mark, Cancels(self.pipe[0]), self.answers[0])

    async def read(self, count: int) -> list[tuple[int, int, bytes]]:
        """Read as a child does, in a thread: its reads block."""
        return [
            message
            for _ in range(count)
            if (message := await self.loop.run_in_executor(None, self.link.receive))
        ]

    async def receive_for_ever(self) -> None:
        """Read as the coordinator does, in turns."""
        while True:
            self.channel.receive()
            await asyncio.sleep(0)

    def close(self) -> None:
        """Close all ends."""
        self.channel.close()
        self.socket.close()
        self.mark.close()
        for fd in self.pipe:
            os.close(fd)
        for end in self.answers:
            end.close()


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE, 5_000_000])
def test_messages_of_every_size_arrive_whole(size: int) -> None:
    """The borders between one packet and two are where such code breaks."""

    async def main() -> None:
        pair = _Pair()
        payload = os.urandom(size)
        pair.channel.send(CALL, 1, payload)
        pair.channel.send(CALL, 2, b"next")
        assert await pair.read(2) == [(CALL, 1, payload), (CALL, 2, b"next")]
        sending = pair.loop.run_in_executor(None, pair.link.send, LOG, 1, payload)
        while not pair.received:
            pair.channel.receive()
            await asyncio.sleep(0)
        await sending
        assert pair.received == [(LOG, 0, 0, (0, 0, 0, 0), 1, payload)]
        pair.close()

    run_async(main())


def test_a_reader_that_does_not_read_never_blocks_the_sender() -> None:
    """A blocked coordinator renews no locks."""

    async def main() -> None:
        pair = _Pair()
        for seq in range(1, 201):
            pair.channel.send(CALL, seq, bytes(10_000))  # else it would wait for ever here
        assert [seq for _, seq, _ in await pair.read(200)] == list(range(1, 201))
        pair.close()

    run_async(main())


@pytest.mark.parametrize("size", [1, 2 * CHUNK_SIZE])
def test_a_child_waits_for_a_coordinator_that_is_behind(size: int) -> None:
    """An answer that is dropped is a job that never ends: its lock would be renewed for ever."""

    async def main() -> None:
        pair = _Pair()
        os.set_blocking(pair.socket.fileno(), False)  # uvloop does so to what it watches
        before = _fill(pair.link)
        sending = pair.loop.run_in_executor(None, pair.link.send, LOG, before + 1, bytes(size))
        await asyncio.wait([sending], timeout=0.1)
        while not sending.done():
            pair.channel.receive()
            await asyncio.sleep(0)
        await sending
        while len(pair.received) <= before:
            pair.channel.receive()
        assert [answer[-2:] for answer in pair.received[before:]] == [(before + 1, bytes(size))]
        pair.close()

    run_async(main())


def _fill(link: Link) -> int:
    """Answer until the socket takes no more; return how many answers it has."""
    packet = REPLY.pack(DONE, 0, 0, 0, 1, *NOT_MEASURED) + bytes(1000)
    for count in range(100_000):
        try:
            link._socket.send(packet)
        except BlockingIOError:
            return count
    message = "the socket takes everything"
    raise AssertionError(message)


def test_what_is_taken_back_is_exactly_what_was_not_read() -> None:
    """A call that is both taken back and read would run twice; neither, never."""

    async def main() -> None:
        pair = _Pair()
        for seq in range(1, 101):
            pair.channel.send(CALL, seq, bytes(10_000))  # some in the socket, some behind it
        read = {seq for _, seq, _ in await pair.read(7)}
        assert pair.channel.take_unread() == (set(range(1, 101)) - read, 0)
        pair.channel.send(CALL, 101, b"new")
        assert await pair.read(1) == [(CALL, 101, b"new")]
        pair.close()

    run_async(main())


def test_half_read_message_is_dropped_when_the_rest_is_taken_back() -> None:
    """The child must not run a call with a hole in its data."""

    async def main() -> None:
        pair = _Pair()
        pair.channel.send(CALL, 1, os.urandom(40 * CHUNK_SIZE))
        await asyncio.sleep(0.01)
        with suppress(BlockingIOError):
            pair.link.receive_now()  # reads all that is there, which is not all of the message
        assert pair.channel.take_unread() == ({1}, 0)
        again = os.urandom(2 * CHUNK_SIZE)
        pair.channel.send(CALL, 2, again)
        assert await pair.read(1) == [(CALL, 2, again)]
        pair.close()

    run_async(main())


def test_message_with_a_lost_packet_is_dropped() -> None:
    """Take-back and the child may read at the same time: each gets some of the packets."""

    async def main() -> None:
        pair = _Pair()
        pair.channel.send(CALL, 1, os.urandom(2 * CHUNK_SIZE + 5))
        await asyncio.sleep(0.05)  # not every loop writes in its next turn
        packets = [pair.socket.recv(1 << 16) for _ in range(3)]
        assert pair.link._message(packets[0]) is None
        assert pair.link._message(packets[2]) is None
        pair.channel.send(CALL, 2, b"next")
        assert await pair.read(1) == [(CALL, 2, b"next")]
        pair.close()

    run_async(main())


@pytest.mark.slow
def test_flood_above_the_limit_is_refused() -> None:
    """A child that sends without end must not take the coordinator's memory."""

    async def main() -> None:
        pair = _Pair()
        huge = bytes(MESSAGE_LIMIT + 1)
        sending = pair.loop.run_in_executor(None, pair.link._send_chunks, _header(), huge)
        with pytest.raises(Flooded):
            await pair.receive_for_ever()
        pair.channel.close()  # the sender hears of it, if it has not finished by now
        await asyncio.gather(sending, return_exceptions=True)
        pair.close()

    run_async(main())


def _header() -> bytes:
    from sandboxq.child.frames import MORE, REPLY

    return REPLY.pack(LOG, MORE, 0, 0, 1, 0, 0, 0)
