"""The masters of a Redis Cluster, each for the slots that it has now.

    commands ──► slot of each ──► owner ──► one exchange with each owner
                     ▲                          │
                     └── MOVED, ASK, TRYAGAIN ◄─┘   sent again: what got such a reply did not run

All keys of a queue lie in one slot, so that nearly always there is one owner to talk to.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from redis.exceptions import AskError, MovedError, ResponseError, TryAgainError

from sandboxq.broker.connect.connection import Connection, error_from_reply, packed
from sandboxq.broker.connect.connection_pool import ConnectionPool
from sandboxq.broker.connect.servers import (
    Owner,
    first_key,
    is_script_call,
    owners_from_reply,
    ping,
    refuse_other_slot,
    scan_one,
    slot_of_command,
    slot_of_key,
)
from sandboxq.errors import BrokerUnavailable, QueueError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from sandboxq.broker.connect.endpoint import ClusterEndpoint, Endpoint
    from sandboxq.broker.connect.resp import Argument

# Seconds that one node has to tell the slots: others know them too.
MAP_SECONDS = 2.0
# Seconds before a command is sent again whose slot is moving to another node.
_MOVING_DELAY = 0.05
# After so many tries a slot has not just moved: two nodes name each other, and are asked slowly.
_MOVES_AT_ONCE = 3


class ClusterServers:
    """The masters of a cluster."""

    def __init__(self, endpoint: ClusterEndpoint) -> None:
        """Find the cluster by the nodes that ``endpoint`` names."""
        self.endpoint = endpoint
        self._answer_timeout = endpoint.answer_timeout
        self._pools: dict[Owner, ConnectionPool] = {}
        # The slots of each master, empty when unknown; what MOVED told takes precedence.
        self._map: list[tuple[range, Owner]] = []
        self._moved: dict[int, Owner] = {}
        # For each slot that was used, one of its keys: ``probe`` asks the slot's owner by it.
        self._used: dict[int, str | bytes] = {}
        self._mapping = asyncio.Lock()

    async def send(
        self, commands: Sequence[Sequence[Argument]], timeout: float | None = None
    ) -> list[Any]:
        """Do what Servers says; commands of one slot run in their order."""
        delivery = _Delivery(commands, timeout)
        ends_at = asyncio.get_running_loop().time() + self._answer_timeout
        rounds = 0
        try:
            while delivery.left:
                for owner, places in (await self._by_owner(delivery)).items():
                    await self._deliver(delivery, owner, places)
                rounds += 1
                if delivery.left:
                    await self._pause(delivery, rounds, ends_at)
        except BrokerUnavailable:
            self._forget()
            raise
        return delivery.replies

    async def send_to_each(self, command: Sequence[Argument]) -> list[Any]:
        """Do what Servers says."""
        lanes = [self._connections(owner) for owner in await self._masters()]
        try:
            replies = await asyncio.gather(
                *(connections.exchange([command]) for connections in lanes)
            )
        except BrokerUnavailable:
            self._forget()
            raise
        return [reply for (reply,) in replies]

    async def scan(self, arguments: Sequence[Argument]) -> AsyncIterator[list[bytes]]:
        """Do what Servers says. A slot that moves meanwhile may be seen twice, or not at all."""
        for owner in await self._masters():
            async for keys in scan_one(self._connections(owner), arguments):
                yield keys

    async def open_link(self, key: str, *, client_name: str | None = None) -> Connection:
        """Do what Servers says."""
        slot = slot_of_key(key)
        self._used[slot] = key
        link = Connection(self._node(await self._owner(slot)), client_name=client_name)
        try:
            await link.open()
        except BrokerUnavailable:
            self._forget()
            raise
        return link

    async def heed(self, reply: ResponseError) -> None:
        """Do what Servers says."""
        if isinstance(reply, MovedError):
            self._note_move(reply)
        elif isinstance(error_from_reply(reply), BrokerUnavailable):
            self._forget()
            for connections in list(self._pools.values()):
                await connections.drop_idle()

    async def probe(self) -> None:
        """Do what Servers says: the owner of each slot that was used must serve it."""
        self._forget()
        # A copy: others use more slots while this one asks.
        used = list(self._used.items())
        owners = {await self._owner(slot): key for slot, key in used}
        if not owners:
            await self._masters()
        for owner, key in owners.items():
            # Not PING: that is answered by a node whose cluster is down.
            await ping(self._connections(owner), "EXISTS", key)

    def refuse_untagged(self, key: str) -> None:
        """Do what Servers says."""
        slot_of_key(key)

    def refuse_far(self, key: str, other: str) -> None:
        """Do what Servers says."""
        refuse_other_slot(key, other)

    async def close(self) -> None:
        """Do what Servers says."""
        for connections in list(self._pools.values()):
            await connections.close()

    # ── sending ─────────────────────────────────────────────────────────────

    async def _by_owner(self, delivery: _Delivery) -> dict[Owner, list[int]]:
        groups: dict[Owner, list[int]] = {}
        for place in delivery.left:
            slot = delivery.slots[place]
            if slot is None:
                owner = next(iter(groups), None) or random.choice(await self._masters())  # noqa: S311 - no secret
            else:
                owner = await self._owner(slot)
                if slot not in self._used:
                    self._used[slot] = first_key(delivery.commands[place])
            groups.setdefault(owner, []).append(place)
        return groups

    async def _deliver(self, delivery: _Delivery, owner: Owner, places: list[int]) -> None:
        """Send commands to one node, and those that it redirects to the node that it names."""
        commands = [delivery.commands[place] for place in places]
        answers = await self._connections(owner).exchange(commands, delivery.timeout)
        asked: dict[Owner, list[int]] = {}
        for place, answer in zip(places, answers, strict=True):
            if isinstance(answer, MovedError):
                self._note_move(answer)
            elif isinstance(answer, AskError):
                if answer.host and not is_script_call(delivery.commands[place]):
                    asked.setdefault(Owner(answer.host, answer.port), []).append(place)
            elif not isinstance(answer, TryAgainError):
                delivery.settle(place, answer)
        for other, some in asked.items():
            await self._deliver_asking(delivery, other, some)

    async def _deliver_asking(self, delivery: _Delivery, owner: Owner, places: list[int]) -> None:
        """Send commands with ASKING: their keys are on a node that does not own the slot yet.

        Never scripts: they touch more keys than they name, and some are still on the old node.
        """
        commands = [each for i in places for each in (("ASKING",), delivery.commands[i])]
        answers = await self._connections(owner).exchange(commands, delivery.timeout)
        for place, answer in zip(places, answers[1::2], strict=True):
            if not isinstance(answer, (AskError, TryAgainError)):
                delivery.settle(place, answer)

    async def _pause(self, delivery: _Delivery, rounds: int, ends_at: float) -> None:
        """Wait before the rest is sent again. Raises: BrokerUnavailable after too long."""
        if asyncio.get_running_loop().time() > ends_at:
            slots = sorted({str(delivery.slots[place]) for place in delivery.left})
            message = (
                f"slot {', '.join(slots)} of the Redis Cluster at {self.endpoint.safe} is still on "
                f"its way to another node after {self._answer_timeout:g} s"
            )
            raise BrokerUnavailable(message)
        has_moved = all(delivery.slots[place] in self._moved for place in delivery.left)
        if not has_moved or rounds > _MOVES_AT_ONCE:
            await asyncio.sleep(_MOVING_DELAY)

    # ── who has what ────────────────────────────────────────────────────────

    def _connections(self, owner: Owner) -> ConnectionPool:
        if owner not in self._pools:

            async def open_link() -> Connection:
                link = Connection(self._node(owner))
                await link.open()
                return link

            self._pools[owner] = ConnectionPool(open_link, answer_timeout=self._answer_timeout)
        return self._pools[owner]

    def _node(self, owner: Owner) -> Endpoint:
        return self.endpoint.seeds[0].at(owner.host, owner.port)

    def _note_move(self, answer: MovedError) -> None:
        if answer.host in {"", "?"}:
            self._forget()
        else:
            self._moved[answer.slot_id] = Owner(answer.host, answer.port)

    def _forget(self) -> None:
        self._map = []
        self._moved.clear()

    async def _owner(self, slot: int) -> Owner:
        if slot in self._moved:
            return self._moved[slot]
        for slots, owner in await self._known_map():
            if slot in slots:
                return owner
        self._forget()
        message = f"no node of the Redis Cluster at {self.endpoint.safe} has slot {slot}"
        raise BrokerUnavailable(message)

    async def _masters(self) -> list[Owner]:
        """Return every master that has slots."""
        return list(dict.fromkeys(owner for _, owner in await self._known_map()))

    async def _known_map(self) -> list[tuple[range, Owner]]:
        if self._map:
            return self._map
        async with self._mapping:
            if not self._map:
                self._map = await self._ask_nodes()
            return self._map

    async def _ask_nodes(self) -> list[tuple[range, Owner]]:
        """Ask nodes in any order until one says that the cluster is well; else use any answer."""
        nodes = list({*self.endpoint.seeds, *map(self._node, self._pools)})
        random.shuffle(nodes)
        told: list[tuple[range, Owner]] = []
        problems: list[str] = []
        for node in nodes:
            try:
                is_well, some = await _map_of(node)
            except QueueError as error:
                problems.append(str(error))
                continue
            told = some or told
            if is_well:
                break
        if not told:
            message = f"no node of the Redis Cluster knows its slots: {'; '.join(problems)}"
            raise BrokerUnavailable(message)
        return told


class _Delivery:
    """Commands, the slot of each, and the replies that have come."""

    def __init__(self, commands: Sequence[Sequence[Argument]], timeout: float | None) -> None:
        self.commands = commands
        self.timeout = timeout
        # All before the first is sent: a wrong key is refused before anything is written.
        self.slots = [slot_of_command(command) for command in commands]
        self.replies: list[Any] = [None] * len(commands)
        self._unsettled = dict.fromkeys(range(len(commands)))

    @property
    def left(self) -> Iterable[int]:
        """The places of the commands that have no reply yet, in order."""
        return list(self._unsettled)

    def settle(self, place: int, reply: Any) -> None:
        """Keep the reply of a command."""
        self.replies[place] = reply
        del self._unsettled[place]


async def _map_of(node: Endpoint) -> tuple[bool, list[tuple[range, Owner]]]:
    """Ask a node whether the cluster is well, and for the slots of each master.

    Raises: BrokerUnavailable, UsageError when it is no node of a cluster.
    """
    link = Connection(node)
    try:
        async with asyncio.timeout(min(MAP_SECONDS, node.connect_timeout)):
            await link.open()
            questions = packed(("CLUSTER", "INFO")) + packed(("CLUSTER", "SLOTS"))
            state, slots = await link.exchange(questions, replies=2, timeout=MAP_SECONDS)
    except TimeoutError as error:
        message = f"Redis at {node.safe} does not answer"
        raise BrokerUnavailable(message) from error
    finally:
        await link.drop()
    if isinstance(slots, ResponseError):
        raise _error_of_map(node, slots) from slots
    host = node.host
    owners = [(r, o if o.host else Owner(host, o.port)) for r, o in owners_from_reply(slots)]
    return not isinstance(state, ResponseError) and b"cluster_state:ok" in state, owners


def _error_of_map(node: Endpoint, reply: ResponseError) -> Exception:
    if "cluster support disabled" in str(reply):
        return UsageError(f"Redis at {node.safe} is not in cluster mode: write redis://… for it")
    error = error_from_reply(reply)
    return error if isinstance(error, BrokerUnavailable) else QueueError(f"{node.safe}: {reply}")
