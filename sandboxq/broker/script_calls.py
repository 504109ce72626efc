"""Runs a script by its SHA-1; one that the server does not know is sent in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sandboxq.broker.script import Script
    from sandboxq.broker.wire import Argument

    Calls = Sequence[tuple[Sequence[str | bytes], Sequence[Argument]]]
    Exchange = Callable[[Sequence[Sequence[Argument]]], Awaitable[list[Any]]]

# A script is sent in full so many times for one call: each time its slot may have moved to a node
# that does not know it.
_LOADS = 3
# Arguments of more bytes are not sent in vain to a server that may not know the script.
_LARGE = 256 << 10
_MISSED = frozenset({NoScriptError})


class ScriptCalls:
    """The scripts of one broker, and which of them its servers know."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: set[str] = set()

    async def run(
        self, exchange: Exchange, load: Exchange, script: Script, calls: Calls
    ) -> list[Any]:
        """Return the reply of each call; ``load`` sends a command to every server.

        Raises: BrokerUnavailable.
        """
        if script.sha not in self._known and _is_large(calls):
            await load([("SCRIPT", "LOAD", script.text)])
        commands = [("EVALSHA", script.sha, len(k), *k, *a) for k, a in calls]
        replies = await exchange(commands)
        if _MISSED.isdisjoint(map(type, replies)):
            self._known.add(script.sha)
            return replies
        for _ in range(_LOADS):
            # A call that got NOSCRIPT did not run, so running it again is safe.
            missed = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if not missed:
                self._known.add(script.sha)
                break
            self._known.discard(script.sha)
            # EVAL makes the script known to the server that runs it, whichever of a cluster it is.
            first, *others = (commands[i] for i in missed)
            again = [("EVAL", script.text, *first[2:]), *others]
            for i, result in zip(missed, await exchange(again), strict=True):
                replies[i] = result
        return replies


def _is_large(calls: Calls) -> bool:
    sizes = (len(part) for _, args in calls for part in args if isinstance(part, (bytes, str)))
    return sum(sizes) > _LARGE
