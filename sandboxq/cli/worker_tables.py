"""Which workers a ``run`` is to have: one for each processor, table or queue of tasks it names.

    run resize.py report.py          two processors, each of the queue called as its file
    run app.tasks                    one worker for each queue of these tasks
    run, or run images               [tool.sandboxq.workers.NAME]: all that have a processor, or one

A table's settings take precedence over ``[tool.sandboxq]``, and hold for its queue in any case.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sandboxq.cli.options import Procs, refuse_unknown
from sandboxq.cli.run_options import ARGUMENTS, take_policy
from sandboxq.cli.task_queues import queues_served
from sandboxq.config import WORKER_TABLES, WorkerOptions
from sandboxq.errors import UsageError
from sandboxq.observe.tracing import Tracing
from sandboxq.sandbox.policy import Policy
from sandboxq.worker.group import Share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OF_SHARE = {"weight", "min", "max"}
_OF_PLAN = {"processor", "queue"}

Table = dict[str, Any]


class Plan(NamedTuple):
    """One worker: what it serves, the keyword arguments of Worker, its share of the machine."""

    queue: str
    processor: str
    options: Any  # WorkerOptions
    share: Share


def plans_of(
    context: click.Context, processors: Sequence[str], queues: Sequence[str]
) -> list[Plan]:
    """Return a plan for each worker; ``queues`` are those named by --queue.

    Raises:
        UsageError: nothing is named, a table makes no sense, or two workers would have one queue.
        ProcessorNotLoaded: one can be no processor.
    """
    tables = _checked_tables(context)
    named = processors or [name for name, table in tables.items() if "processor" in table]
    if not named:
        message = (
            "name a processor, as in `run resize.py`, or write tables "
            '[tool.sandboxq.workers.NAME] with processor = "…" into pyproject.toml'
        )
        raise UsageError(message)
    if queues and len(named) > 1:
        message = "--queue is for one processor: each of several serves the queue of its own name"
        raise UsageError(message)
    served = [pair for each in named for pair in _served(each, tables, queues)]
    _refuse_twice(served)
    names = _table_by_queue(tables)
    return [
        _plan(context, queue, processor, names.get(queue, ""), tables, is_alone=len(served) == 1)
        for queue, processor in served
    ]


def _served(name: str, tables: Mapping[str, Table], queues: Sequence[str]) -> list[tuple[str, str]]:
    """Return the queues of what was named, each with its processor."""
    table = tables.get(name, {})
    if "processor" in table:
        return [(queue, table["processor"]) for queue in queues or [table.get("queue", name)]]
    return [(queue, name) for queue in queues or queues_served(name)]


def _refuse_twice(served: Sequence[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for queue, processor in served:
        if queue in seen:
            message = (
                f"{seen[queue]} and {processor} would both serve the queue {queue!r}: give one of "
                "them another in a table [tool.sandboxq.workers.NAME]"
            )
            raise UsageError(message)
        seen[queue] = processor


def _plan(
    context: click.Context, queue: str, processor: str, name: str, tables: Mapping[str, Table],
    *, is_alone: bool,
) -> Plan:  # fmt: skip
    table = tables.get(name, {})
    params = _params(context, name, table)
    if not is_alone:  # else --procs says how many all of them share
        fixed = table.get("procs")
        params["procs"] = "auto" if fixed is None else Procs().convert(fixed, None, context)
    options = {each: params[each] for each in WorkerOptions.__annotations__ if each in params}
    options["policy"] = take_policy(params)
    options["tracing"] = Tracing() if params.get("tracing") else None
    share = Share(**{each: table[each] for each in _OF_SHARE if each in table})
    return Plan(queue, processor, options, share)


def _params(context: click.Context, name: str, table: Table) -> dict[str, Any]:
    """Return the parameters of the command with the table's settings as defaults."""
    settings = {each: value for each, value in table.items() if each not in _OF_SHARE | _OF_PLAN}
    if not settings:
        return dict(context.params)
    anew = click.Context(context.command, parent=context.parent, info_name=context.info_name)
    anew.default_map = {**(context.default_map or {}), **settings}
    try:
        with anew.scope(cleanup=False):
            context.command.parse_args(anew, list(context.meta[ARGUMENTS]))
    except click.UsageError as error:
        message = f"pyproject.toml, [tool.sandboxq.workers.{name}]: {error.format_message()}"
        raise UsageError(message) from None
    return dict(anew.params)


def _checked_tables(context: click.Context) -> dict[str, Table]:
    """Return the tables of pyproject.toml with ``_`` for ``-`` in the names of settings."""
    tables = context.meta.get(WORKER_TABLES, {})
    known = {each.name for each in context.command.params} & set(WorkerOptions.__annotations__)
    known |= {each.name for each in fields(Policy) if each.name != "name"} | _OF_SHARE | _OF_PLAN
    checked = {}
    for name, table in tables.items() if isinstance(tables, dict) else [("", tables)]:
        where = f"[tool.sandboxq.workers{name and '.'}{name}]"
        if not isinstance(table, dict):
            message = f"pyproject.toml: {where} must be a table"
            raise UsageError(message)
        checked[name] = {str(each).replace("-", "_"): value for each, value in table.items()}
        refuse_unknown(checked[name], known, where)
        _check_texts(checked[name], where)
    return checked


def _check_texts(table: Table, where: str) -> None:
    for name in _OF_PLAN & table.keys():
        if not isinstance(table[name], str) or not table[name]:
            message = f"pyproject.toml: {where} {name} must be text"
            raise UsageError(message)
    try:
        Share(**{each: table[each] for each in _OF_SHARE & table.keys()})
    except UsageError as error:
        message = f"pyproject.toml: {where} {error}"
        raise UsageError(message) from None


def _table_by_queue(tables: Mapping[str, Table]) -> dict[str, str]:
    """Return the name of the table of each queue."""
    names: dict[str, str] = {}
    for name, table in tables.items():
        queue = table.get("queue", name)
        if queue in names:
            message = (
                f"pyproject.toml: [tool.sandboxq.workers.{names[queue]}] and "
                f"[tool.sandboxq.workers.{name}] are both of queue {queue!r}"
            )
            raise UsageError(message)
        names[queue] = name
    return names
