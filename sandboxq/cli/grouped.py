"""The help page of a command with many options: by what they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    "Redis, log and traces": ("url", "prefix", "log_format", "tracing", "http"),
}  # fmt: skip
OTHERS = "Others"
# Where a command leaves its arguments, among what all contexts share: they may be parsed again.
ARGUMENTS = "sandboxq.arguments"


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
