"""The master of a name, as the Sentinels know it; asked again when it may have changed.

send, open_link ──► master known? ──no──► ask all Sentinels, the newest epoch of a majority wins
                        │
                        ▼  ROLE says master, else forgotten and refused
connection lost, READONLY ──► forgotten: the next connection asks again
a Sentinel tells of a promotion (sentinel_watch.py) ──► it is asked; connections to others dropped
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import ResponseError

from sandboxq.broker.lane import Lane
from sandboxq.broker.link import Link, error_from_reply, packed
from sandboxq.broker.sentinel_watch import SentinelWatch
from sandboxq.broker.servers import ping, scan_one
from sandboxq.errors import BrokerUnavailable, QueueError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sandboxq.broker.endpoint import Endpoint
    from sandboxq.broker.many_hosts import SentinelEndpoint
    from sandboxq.broker.wire import Argument

# Seconds for one Sentinel to answer: a machine that is gone must not hold up the failover.
SENTINEL_SECONDS = 2.0
# For so many seconds an older answer does not count: the Sentinel that leads a failover knows the
# new master first, and tells the others within a second or two.
_TOLD_SECONDS = 30.0


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
        # The newest answer of a Sentinel, and until when it counts.
        self._told: _Told | None = None
        self._told_until = 0.0
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._watch = SentinelWatch(endpoint.sentinels, self._on_news, timeout=SENTINEL_SECONDS)
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
        await self._watch.close()
        await self._lane.close()

    async def _open(self, client_name: str | None = None) -> Link:
        master = await self._find()
        link = Link(master, client_name=client_name)
        self._links.add(link)
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
        self._watch.start()
        async with self._asking:
            if self._master is None:
                told = self._newest_of([await self._newest_answer()])
                await self._go_to(told)
            assert self._master is not None  # noqa: S101 - it was set above
            return self._master

    async def _on_news(self, sentinel: Endpoint) -> None:
        """Ask a Sentinel that told of a change, and go to the master that it names if it is newer.

        Raises: BrokerUnavailable when it does not answer.
        """
        told = await self._ask(sentinel)
        async with self._asking:
            if self._told is None or told.epoch > self._told.epoch:
                await self._go_to(told)

    def _newest_of(self, answers: list[_Told]) -> _Told:
        if self._told is not None and asyncio.get_running_loop().time() < self._told_until:
            answers = [*answers, self._told]
        return max(answers, key=lambda told: told.epoch)

    async def _go_to(self, told: _Told) -> None:
        """Use this master from now on, and no connection to an older one, which may take writes."""
        if told != self._told:
            self._told = told
            self._told_until = asyncio.get_running_loop().time() + _TOLD_SECONDS
        self._master = master = self.endpoint.data_node.at(told.host, told.port)
        if master == self._lane_goes_to:
            return
        old, self._lane = self._lane, self._new_lane()
        self._lane_goes_to = master
        await old.close()
        for link in list(self._links):
            if link.url != master.url:
                await link.drop()  # whoever waits for a reply gets BrokerUnavailable

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
                # The address by itself: in a failover it is the promoted one as soon as that is
                # known, while MASTER still describes the old one, with the new epoch.
                ask = packed(("SENTINEL", "MASTER", name))
                ask += packed(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name))
                reply, address = await link.exchange(ask, replies=2, timeout=SENTINEL_SECONDS)
        except TimeoutError as error:
            message = f"the Sentinel at {sentinel.safe} does not answer"
            raise BrokerUnavailable(message) from error
        finally:
            await link.drop()
        for each in (reply, address):
            if isinstance(each, ResponseError):
                message = f"the Sentinel at {sentinel.safe} says: {each}"
                raise BrokerUnavailable(message) from each
        known = dict(zip(reply[::2], reply[1::2], strict=True))
        host, port = address
        return _Told(int(known[b"config-epoch"]), host.decode(), int(port))
