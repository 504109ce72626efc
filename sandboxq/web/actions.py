"""All that changes something, one function each.

    @action("/queues/{queue}/pause")
    async def pause_queue(visit: Visit, queue: str) -> Done: …

The decorator checks the role, writes the audit log, and lists the function: its routes, in the API
and for forms, and its part of the OpenAPI document come by themselves.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypedDict, TypeVar, cast

from sandboxq.errors import SandboxqError
from sandboxq.web.answers import NotAllowed
from sandboxq.web.audit import write_down
from sandboxq.web.operations import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sandboxq.web.access import Visitor
    from sandboxq.web.context import Dashboard

A = TypeVar("A", bound="Callable[..., Coroutine[Any, Any, Done]]")


class Visit(NamedTuple):
    """Who acts, and on what."""

    dashboard: Dashboard
    visitor: Visitor


class Done(TypedDict):
    """What came of an action, in words, and to how many jobs, queues or workers it was done."""

    message: str
    count: int


_listed: list[Operation] = []


def action(path: str) -> Callable[[A], A]:
    """List a function as an action at this path, for those who may operate."""

    def decorate(function: A) -> A:
        @functools.wraps(function)
        async def checked(visit: Visit, **arguments: Any) -> Done:
            if not visit.visitor.can_operate:
                _refuse()
            try:
                done: Done = await function(visit, **arguments)
            except SandboxqError as error:
                await write_down(*visit, function.__name__, arguments, f"refused: {error}")
                raise
            await write_down(*visit, function.__name__, arguments, done["message"])
            return done

        _listed.append(Operation(path, checked, "POST"))
        return cast("A", checked)

    return decorate


def _refuse() -> NoReturn:
    message = "you may look, and change nothing"
    raise NotAllowed(message)


@action("/queues/{queue}/pause")
async def pause_queue(visit: Visit, queue: str) -> Done:
    """Let no worker claim jobs of a queue any more; jobs can still be added."""
    await (await visit.dashboard.queue(queue)).pause()
    return {"message": f"queue {queue!r} is paused: running jobs end, others wait", "count": 1}


@action("/queues/{queue}/resume")
async def resume_queue(visit: Visit, queue: str) -> Done:
    """Undo a pause."""
    await (await visit.dashboard.queue(queue)).resume()
    return {"message": f"queue {queue!r} goes on", "count": 1}


ACTIONS: tuple[Operation, ...] = tuple(_listed)
