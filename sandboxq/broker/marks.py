"""Marks: what an exchange leaves in Redis, so that who lost its reply learns what it did.

    scripts ──► Redis: they run, and leave a mark   ◄── the connection breaks
    marked  ──► which calls have run, and with what result; the others have not, and are sent again

Writing a log row, progress or an outcome twice would be seen. Asking costs a round trip, but only
after a loss; leaving the mark costs one SET for a hundred rows (lua/includes/mark.lua).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sandboxq.broker.connection import Broker


class Mark(NamedTuple):
    """One exchange: the key that is its writer's own, and a number that is the exchange's own."""

    key: str
    number: int

    def entry(self, call: int) -> str:
        """Return what stands for a call of the exchange, counted from 0."""
        return f"{self.number}.{call}"


NO_MARK = Mark("", 0)


async def marked(broker: Broker, mark: Mark) -> dict[int, str]:
    """Return the calls of an exchange that have run, by number, and the text that each has left.

    Raises: BrokerUnavailable.
    """
    raw: bytes | None = await broker.command("GET", mark.key)
    texts: dict[int, str] = {}
    for each in (raw or b"").decode(errors="replace").split(";"):
        entry, _, text = each.partition(":")
        number, _, call = entry.partition(".")
        if number == str(mark.number) and call.isdecimal():
            texts[int(call)] = text
    return texts
