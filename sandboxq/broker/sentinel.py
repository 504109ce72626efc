"""The master of a name, as the Sentinels know it; asked again when it may have changed.

send, open_link ──► master known? ──no──► ask all Sentinels, the newest epoch of a majority wins
                        │
                        ▼  ROLE says master, else forgotten and refused
connection lost, READONLY ──► forgotten: the next connection asks again
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import ResponseError

from sandboxq.broker.lane import Lane
from sandboxq.broker.link import Link, error_from_reply, packed
from sandboxq.broker.servers import ping, scan_one
from sandboxq.errors import BrokerUnavailable, QueueError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sandboxq.broker.endpoint import Endpoint
    from sandboxq.broker.many_hosts import SentinelEndpoint
    from sandboxq.broker.wire import Argument

# Seconds for one Sentinel to answer: a machine that is gone must not hold up the failover.
SENTINEL_SECONDS = 2.0


class _Told(NamedTuple):
    """What a Sentinel says of the master; a later failover has a higher epoch."""

    epoch: int
    host: str
    port: int


class SentinelServers:
    """The one server that is the master at the moment."""

    def __init__(self, endpoint: SentinelEndpoint) -> None:
        """Send to the master that the Sentinels of ``endpoint`` name."""
        self.endpoint = endpoint
        self._master: Endpoint | None = None
        self._asking = asyncio.Lock()
        self._lane = self._new_lane()
        self._lane_goes_to: Endpoint | None = None

    async def send(
        self, commands: Sequence[Sequence[Argument]], timeout: float | None = None
    ) -> list[Any]:
        """Do what Servers says."""
        try:
            return await self._lane.exchange(commands, timeout)
        except BrokerUnavailable:
            self._master = None
            raise

    async def send_to_each(self, command: Sequence[Argument]) -> list[Any]:
        """Do what Servers says."""
        return await self.send([command])

    def scan(self, arguments: Sequence[Argument]) -> AsyncIterator[list[bytes]]:
        """Do what Servers says."""
        return scan_one(self._lane, arguments)

    async def open_link(self, key: str, *, client_name: str | None = None) -> Link:
        """Do what Servers says."""
        del key
        return await self._open(client_name)

    async def heed(self, reply: ResponseError) -> None:
        """Do what Servers says."""
        if isinstance(error_from_reply(reply), BrokerUnavailable):
            self._master = None
            await self._lane.drop_idle()

    async def probe(self) -> None:
        """Do what Servers says, of a master that was asked for anew."""
        self._master = None
        await ping(self._lane)

    def refuse_untagged(self, key: str) -> None:
        """Do what Servers says: one server has room for all."""

    def refuse_far(self, key: str, other: str) -> None:
        """Do what Servers says: one server has room for all."""

    async def close(self) -> None:
        """Do what Servers says."""
        await self._lane.close()

    async def _open(self, client_name: str | None = None) -> Link:
        master = await self._find()
        link = Link(master, client_name=client_name)
        try:
            await link.open()
            await self._refuse_unless_master(link, master)
        except BaseException:
            await link.drop()
            if self._master is master:
                self._master = None
            raise
        return link

    async def _refuse_unless_master(self, link: Link, master: Endpoint) -> None:
        (reply,) = await link.exchange(
            packed(("ROLE",)), replies=1, timeout=self.endpoint.answer_timeout
        )
        # A user who may not ask for the role is refused by the replica itself, with READONLY.
        if not isinstance(reply, ResponseError) and reply[0] != b"master":
            message = (
                f"Redis at {master.safe} is no longer the master {self.endpoint.master_name!r}, "
                "and the Sentinels do not know another yet"
            )
            raise BrokerUnavailable(message)

    async def _find(self) -> Endpoint:
        async with self._asking:
            if self._master is None:
                told = await self._newest_answer()
                self._master = self.endpoint.data_node.at(told.host, told.port)
                await self._leave_other_than(self._master)
            return self._master

    async def _leave_other_than(self, master: Endpoint) -> None:
        """Use no connection to an older master again: for a moment it may still take writes."""
        if master != self._lane_goes_to:
            old, self._lane = self._lane, self._new_lane()
            self._lane_goes_to = master
            await old.close()

    def _new_lane(self) -> Lane:
        return Lane(self._open, answer_timeout=self.endpoint.answer_timeout)

    async def _newest_answer(self) -> _Told:
        """Ask all; a majority is enough, as one that is cut off may still name the old master."""
        sentinels = self.endpoint.sentinels
        questions = [asyncio.create_task(self._ask(each)) for each in sentinels]
        answers: list[_Told] = []
        problems: list[str] = []
        try:
            for question in asyncio.as_completed(questions):
                try:
                    answers.append(await question)
                except QueueError as error:
                    problems.append(str(error))
                if len(answers) > len(sentinels) // 2:
                    break
        finally:
            for each in questions:
                each.cancel()
            await asyncio.gather(*questions, return_exceptions=True)
        if not answers:
            message = f"no Sentinel of {self.endpoint.safe} names a master: {'; '.join(problems)}"
            raise BrokerUnavailable(message)
        return max(answers)

    async def _ask(self, sentinel: Endpoint) -> _Told:
        name = self.endpoint.master_name
        link = Link(sentinel)
        try:
            async with asyncio.timeout(min(SENTINEL_SECONDS, sentinel.connect_timeout)):
                await link.open()
                (reply,) = await link.exchange(
                    packed(("SENTINEL", "MASTER", name)), replies=1, timeout=SENTINEL_SECONDS
                )
        except TimeoutError as error:
            message = f"the Sentinel at {sentinel.safe} does not answer"
            raise BrokerUnavailable(message) from error
        finally:
            await link.drop()
        if isinstance(reply, ResponseError):
            message = f"the Sentinel at {sentinel.safe} says: {reply}"
            raise BrokerUnavailable(message) from reply
        known = dict(zip(reply[::2], reply[1::2], strict=True))
        return _Told(int(known[b"config-epoch"]), known[b"ip"].decode(), int(known[b"port"]))
