"""The master of a name, as the Sentinels know it, and how a change of it is noticed.

send, open_link ──► master known? ──no──► ask all Sentinels, the newest epoch of a majority wins
                        │
                        ▼  ROLE says master, else forgotten and refused
connection lost, READONLY ──► forgotten: the next connection asks again
SentinelWatch: a promotion is published ──► that Sentinel is asked; other connections are dropped

The watch matters while the old master still takes writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import ResponseError

from sandboxq.broker.connect.connection import Connection, error_from_reply, packed
from sandboxq.broker.connect.connection_pool import ConnectionPool
from sandboxq.broker.connect.servers import ping, scan_one
from sandboxq.errors import BrokerUnavailable, QueueError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from sandboxq.broker.connect.endpoint import Endpoint, SentinelEndpoint
    from sandboxq.broker.connect.resp import Argument

# Seconds that one Sentinel has to answer: a lost machine must not delay the failover.
SENTINEL_SECONDS = 2.0
# Seconds for which answers with an older epoch are ignored: the Sentinel that leads a failover
# knows the new master first, and tells the others within a second or two.
_TOLD_SECONDS = 30.0

# The first comes from the Sentinel that leads the failover, as soon as the replica says that it is
# a master; the second from every Sentinel, when it has the new configuration.
CHANNELS = ("+promoted-slave", "+switch-master")
# Seconds until a silent Sentinel is sent a PING, and that it has to answer.
_SILENCE = 10.0
_ANSWER = 3.0
# Seconds between two tries to reach a Sentinel.
_PAUSE = (0.5, 1.5)


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
        # The newest answer of a Sentinel, and until when older ones are ignored.
        self._told: _Told | None = None
        self._told_until = 0.0
        self._links: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._watch = SentinelWatch(endpoint.sentinels, self._on_news, timeout=SENTINEL_SECONDS)
        self._connections = self._new_lane()
        self._lane_goes_to: Endpoint | None = None

    async def send(
        self, commands: Sequence[Sequence[Argument]], timeout: float | None = None
    ) -> list[Any]:
        """Do what Servers says."""
        try:
            return await self._connections.exchange(commands, timeout)
        except BrokerUnavailable:
            self._master = None
            raise

    async def send_to_each(self, command: Sequence[Argument]) -> list[Any]:
        """Do what Servers says."""
        return await self.send([command])

    def scan(self, arguments: Sequence[Argument]) -> AsyncIterator[list[bytes]]:
        """Do what Servers says."""
        return scan_one(self._connections, arguments)

    async def open_link(self, key: str, *, client_name: str | None = None) -> Connection:
        """Do what Servers says."""
        del key
        return await self._open(client_name)

    async def heed(self, reply: ResponseError) -> None:
        """Do what Servers says."""
        if isinstance(error_from_reply(reply), BrokerUnavailable):
            self._master = None
            await self._connections.drop_idle()

    async def probe(self) -> None:
        """Do what Servers says, of a master that was asked for anew."""
        self._master = None
        await ping(self._connections)

    def refuse_untagged(self, key: str) -> None:
        """Do what Servers says: one server has room for all."""

    def refuse_far(self, key: str, other: str) -> None:
        """Do what Servers says: one server has room for all."""

    async def close(self) -> None:
        """Do what Servers says."""
        await self._watch.close()
        await self._connections.close()

    async def _open(self, client_name: str | None = None) -> Connection:
        master = await self._find()
        link = Connection(master, client_name=client_name)
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

    async def _refuse_unless_master(self, link: Connection, master: Endpoint) -> None:
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
        """Use this master; drop connections to an older one, which may still take writes."""
        if told != self._told:
            self._told = told
            self._told_until = asyncio.get_running_loop().time() + _TOLD_SECONDS
        self._master = master = self.endpoint.data_node.at(told.host, told.port)
        if master == self._lane_goes_to:
            return
        old, self._connections = self._connections, self._new_lane()
        self._lane_goes_to = master
        await old.close()
        for link in list(self._links):
            if link.url != master.url:
                await link.drop()  # whoever waits for a reply gets BrokerUnavailable

    def _new_lane(self) -> ConnectionPool:
        return ConnectionPool(self._open, answer_timeout=self.endpoint.answer_timeout)

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
        link = Connection(sentinel)
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


class SentinelWatch:
    """One subscription to each Sentinel, for as long as the connections to the master are used."""

    def __init__(
        self,
        sentinels: Sequence[Endpoint],
        on_news: Callable[[Endpoint], Awaitable[None]],
        *,
        timeout: float,
    ) -> None:
        """``on_news`` is called with each Sentinel that published a change.

        ``timeout`` is the seconds that a Sentinel has to take the subscription.
        """
        self._sentinels = sentinels
        self._on_news = on_news
        self._timeout = timeout
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Subscribe in the background; twice is harmless."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._follow(each)) for each in self._sentinels]

    async def close(self) -> None:
        """End the subscriptions; may be called twice."""
        tasks, self._tasks = self._tasks, []
        if any(task.get_loop() is not asyncio.get_running_loop() for task in tasks):
            return  # their event loop has ended, and they with it
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, sentinel: Endpoint) -> None:
        while True:
            link = Connection(sentinel)
            try:
                await self._listen(link, sentinel)
            except QueueError:
                await asyncio.sleep(random.uniform(*_PAUSE))  # noqa: S311 - no secret
            finally:
                await link.drop()

    async def _listen(self, link: Connection, sentinel: Endpoint) -> None:
        await link.open()
        message = packed(("SUBSCRIBE", *CHANNELS))
        replies = await link.exchange(message, replies=len(CHANNELS), timeout=self._timeout)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise error_from_reply(reply) from reply
        # What was told before this subscription: the master may have been asked for before that.
        await self._tell(sentinel)
        while True:
            push = await self._next_push(link)
            if push[0] == b"message":
                await self._tell(sentinel)

    async def _tell(self, sentinel: Endpoint) -> None:
        with contextlib.suppress(QueueError):  # the next answer may be better
            await self._on_news(sentinel)

    async def _next_push(self, link: Connection) -> list[bytes]:
        try:
            async with asyncio.timeout(_SILENCE):
                return list(await link.next_push())
        except TimeoutError:
            pass
        try:
            async with asyncio.timeout(_ANSWER):
                await link.send("PING")
                return list(await link.next_push())
        except TimeoutError as error:
            message = "the Sentinel's subscription is dead"
            raise BrokerUnavailable(message) from error
