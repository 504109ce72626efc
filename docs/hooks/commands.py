"""Writes every command with its options into pages, and the worker's, from the parser itself."""

from __future__ import annotations

import html
import inspect
import re
from typing import TYPE_CHECKING, Any

import click

from sandboxq.cli.main import cli
from sandboxq.cli.run_options import GroupedCommand
from sandboxq.config import WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MARK = "<!-- commands -->"
WORKER_MARK = "<!-- options of Worker -->"
_PROGRAM = "python -m sandboxq"
# In the title of a group: the page is beside that of the commands.
_PAGE = re.compile(r"docs/reference/([\w-]+\.md)")
_LINK = r"[\1](\1)"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what there is where a page has a mark."""
    for mark, lines in ((MARK, _commands), (WORKER_MARK, _worker_options)):
        if mark in markdown:
            markdown = markdown.replace(mark, "\n".join(lines()))
    return markdown


def _worker_options() -> Iterator[str]:
    """Yield those that are also flags of ``run``: their texts and defaults are the same."""
    context = click.Context(cli)
    command = cli.get_command(context, "run")
    assert command is not None
    flags = {each.name: each for each in command.params if isinstance(each, click.Option)}
    yield "| argument | type | what it does | default |\n|---|---|---|---|"
    for name, kind in WorkerOptions.__annotations__.items():
        if name in flags:
            default = flags[name].get_help_extra(context).get("default", "")
            told = _text(flags[name].help)
            written = kind.__forward_arg__.replace("dt.", "")
            yield f"| `{name}` | {_code(written)} | {told} | {_code(default)} |"


def _commands() -> Iterator[str]:
    context = click.Context(cli, info_name=_PROGRAM)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None, name
        yield from _section(command, click.Context(command, parent=context, info_name=name), 2)


def _section(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    yield f"\n{'#' * level} {context.info_name}\n"
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    yield f"{_text(inspect.cleandoc(command.help or ''))}\n"
    yield from _options(command, context)
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _section(
                inner, click.Context(inner, parent=context, info_name=name), level + 1
            )


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield a table for each group of options, in the order of ``--help``."""
    if isinstance(command, GroupedCommand):
        for title, options in command.groups(context):
            yield f"\n**{_PAGE.sub(_LINK, title)}**\n"
            yield from _table(options, context)
    else:
        yield from _table(command.params, context)


def _table(options: Sequence[click.Parameter], context: click.Context) -> Iterator[str]:
    yield "| option | what it does | default |\n|---|---|---|"
    for option in options:
        record = option.get_help_record(context)
        if not isinstance(option, click.Option) or record is None:
            continue
        extra = option.get_help_extra(context)
        names = "<br>".join(
            [_code(record[0]), *(_code(f"${name}") for name in extra.get("envvars", ()))]
        )
        default = _code(extra["default"]) if extra.get("default") else ""
        yield f"| {names} | {_text(option.help)} | {default} |"


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _text(text: str | None) -> str:
    """Return text of the parser as it is, also in a cell of a table."""
    shown = html.escape((text or "").replace("\b", ""), quote=False)
    for sign in "|*_`[]":
        shown = shown.replace(sign, f"&#{ord(sign)};")
    return shown.strip()
