"""The options of ``run``: groups on its help page, and a flag for each field of ``Policy``."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from sandboxq.cli.options import Size, setting
from sandboxq.sandbox.policy import FILE_SIZE, FILES, NAMES, PROCESSES, SCRATCH, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Of ``run``, in the order of its help page.
GROUPS = {
    "What is run, and by how many": (
        "queue", "procs", "concurrency", "isolation", "burst", "name", "reload", "reload_dir",
    ),
    "What jobs may do (docs/reference/sandbox.md)": (
        "policy", "memory", "processes", "scratch", "files", "file_size", "cpu_seconds",
        "environment", "read", "write", "network", "subprocess", "user", "add_to", "fresh",
        "leave_processes",
    ),
    "How long jobs may take (docs/reference/deadlines.md)": (
        "timeout", "timeout_grace", "max_block", "start_timeout", "shutdown_timeout",
    ),
    "When a job fails for good (docs/reference/deaths.md)": (
        "max_crashes", "max_started_attempts", "max_stalled_count",
    ),
    "When children are replaced": (
        "max_jobs_per_child", "max_rss_per_child", "max_child_age",
    ),
    "What one job may say": (
        "max_result", "max_reports", "max_report_bytes", "max_lines", "max_questions",
        "max_failure_text", "max_rate_limit",
    ),
    "Claims and locks": (
        "limiter", "claim_ahead_jobs", "claim_ahead_ms", "drain_delay", "lock_duration",
        "stalled_interval", "skip_stalled_check", "skip_lock_renewal",
    ),
    "What is kept of jobs": ("remove_on_complete", "remove_on_fail", "metrics_points"),
    "Redis, log and traces": ("url", "prefix", "log_format", "tracing", "http", "webhook"),
}  # fmt: skip
OTHERS = "Others"
# The key in a context's ``meta`` under which a command keeps its arguments, to parse them again.
ARGUMENTS = "sandboxq.arguments"

_GB = 1 << 30
# Flags without a value are left out: a policy refuses settings that it has not only when given.
_FLAGS = (
    setting(
        "--policy",
        type=click.Choice(NAMES),
        default="limits",
        show_default=True,
        help="What jobs may do: none limits nothing, strict allows only what is granted.",
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
    setting(
        "--cpu-seconds",
        type=float,
        help="CPU seconds of one job, with all that it starts. Default: no limit.",
    ),
    setting(
        "--environment",
        multiple=True,
        metavar="NAME",
        help="An environment variable that jobs get: with strict besides a few harmless ones, else "
        "instead of all. May be repeated.",
    ),
    setting(
        "--read",
        multiple=True,
        type=click.Path(),
        help="Strict: a path that jobs may read, with all below it. May be repeated.",
    ),
    setting(
        "--write",
        multiple=True,
        type=click.Path(),
        help="Strict: a path that jobs may write, with all below it. May be repeated.",
    ),
    setting(
        "--network/--no-network", default=False, help="Strict: allow the network. Default: no."
    ),
    setting(
        "--subprocess/--no-subprocess",
        default=False,
        help="Strict: allow jobs to start programs. Default: no.",
    ),
    setting("--user", help="Strict: run jobs as this user; root only. Default: the same user."),
    setting(
        "--add-to",
        multiple=True,
        metavar="QUEUE",
        help="Strict: a queue that jobs may add to, * for all. May be repeated.",
    ),
    setting(
        "--fresh/--no-fresh", default=False, help="Strict: a new child for each job. Default: no."
    ),
    setting(
        "--leave-processes/--no-leave-processes",
        default=False,
        help="Let processes that a job started run on after it. Default: they are ended.",
    ),
)


class GroupedCommand(click.Command):
    """A command whose help page has its options in groups."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments, and read them."""
        ctx.meta[ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group."""
        for title, options in self.groups(ctx):
            records = [record for each in options if (record := each.get_help_record(ctx))]
            with formatter.section(title):
                formatter.write_dl(records)

    def groups(self, ctx: click.Context) -> Iterator[tuple[str, list[click.Parameter]]]:
        """Yield each group and its options; last those of no group, such as ``--help``."""
        left = {each.name: each for each in self.get_params(ctx) if isinstance(each, click.Option)}
        for title, names in GROUPS.items():
            found: list[click.Parameter] = [left.pop(name) for name in names if name in left]
            if found:
                yield title, found
        if left:
            yield OTHERS, list(left.values())


def policy_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags of a policy to a command, in this order."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def take_policy(options: dict[str, Any]) -> Policy:
    """Take the policy out of a command's options. Raises: UsageError: it makes no sense."""
    name = options.pop("policy")
    given = {each.name: options.pop(each.name) for each in fields(Policy) if each.name != "name"}
    return Policy(name, **{key: value for key, value in given.items() if value not in (None, ())})
