"""What the command line says of a child's policy: a flag for each field of ``Policy``."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from sandboxq.cli.options import Size, setting
from sandboxq.sandbox.policy import FILE_SIZE, FILES, NAMES, PROCESSES, SCRATCH, Policy

if TYPE_CHECKING:
    from collections.abc import Callable

_GB = 1 << 30
# A policy refuses what it does not limit only when it was asked for: what nobody said is left out.
_FLAGS = (
    setting(
        "--policy",
        type=click.Choice(NAMES),
        default="limits",
        show_default=True,
        help="What a child may do.",
    ),
    setting("--memory", type=Size(), help="Memory of one child: 512M, 2G. Default: a fair share."),
    setting(
        "--processes",
        type=click.IntRange(1),
        help=f"Processes at once of all that a job starts. Default: {PROCESSES}.",
    ),
    setting(
        "--scratch",
        type=Size(),
        help=f"Temporary files that a child has at once. Default: {SCRATCH // _GB}G.",
    ),
    setting("--files", type=click.IntRange(1), help=f"Files open at once. Default: {FILES}."),
    setting("--file-size", type=Size(), help=f"Size of one file. Default: {FILE_SIZE // _GB}G."),
    setting("--cpu-seconds", type=float, help="CPU seconds of one job, with all that it starts."),
    setting(
        "--environment",
        multiple=True,
        metavar="NAME",
        help="A variable that jobs get: strict, besides harmless ones; else, instead of all. "
        "May be repeated.",
    ),
    setting(
        "--read", multiple=True, type=click.Path(), help="Strict: also readable. May be repeated."
    ),
    setting("--write", multiple=True, type=click.Path(), help="Strict: writable. May be repeated."),
    setting("--network/--no-network", default=False, help="Strict: whether jobs may use it."),
    setting("--subprocess/--no-subprocess", default=False, help="Strict: may jobs start programs."),
    setting("--user", help="Strict: drop to this user; root only."),
    setting(
        "--add-to",
        multiple=True,
        metavar="QUEUE",
        help="Strict: a queue that jobs may add to, * for all. May be repeated.",
    ),
    setting("--fresh/--no-fresh", default=False, help="Strict: a new child for each job."),
    setting(
        "--leave-processes/--no-leave-processes",
        default=False,
        help="Let what a job has started run on after it; else it is ended.",
    ),
)


def policy_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flags of a policy, in this order."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def take_policy(options: dict[str, Any]) -> Policy:
    """Take the policy out of a command's options. Raises: UsageError: it makes no sense."""
    name = options.pop("policy")
    given = {each.name: options.pop(each.name) for each in fields(Policy) if each.name != "name"}
    return Policy(name, **{key: value for key, value in given.items() if value not in (None, ())})
