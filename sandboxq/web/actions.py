"""All that changes something, one function each.

    @action("/queues/{queue}/pause")
    async def pause_queue(visit: Visit, queue: str) -> Done: …      queue_actions.py, …

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


# Filled by the modules that api.py imports.
ACTIONS: list[Operation] = []


def action(path: str) -> Callable[[A], A]:
    """List a function as an action at this path, for those who may operate."""

    def decorate(function: A) -> A:
        @functools.wraps(function)
        async def checked(visit: Visit, **arguments: Any) -> Done:
            if not visit.visitor.can_operate:
                _refuse()
            try:
                done: Done = await function(visit, **arguments)
            except BaseException as error:
                why = f"refused: {error}" if isinstance(error, SandboxqError) else "cut short"
                await write_down(*visit, function.__name__, arguments, why)
                raise
            await write_down(*visit, function.__name__, arguments, done["message"])
            return done

        ACTIONS.append(Operation(path, checked, "POST"))
        return cast("A", checked)

    return decorate


def _refuse() -> NoReturn:
    message = "you may look, and change nothing"
    raise NotAllowed(message)
