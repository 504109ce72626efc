"""The root command: finds each subcommand's file when it is asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from sandboxq.cli.messages import end_with_exit_code, show_notes
from sandboxq.config import WORKER_TABLES, project_settings

# name → one line for --help. Files are imported on use, so that each command starts fast.
_COMMANDS = {
    "init": "Write a processor, a test and settings to begin with.",
    "run": "Run a processor: claim jobs from its queue and execute them in sandboxed children.",
    "add": "Add a job to a queue.",
    "stats": "Show counts by state, of every queue or one.",
    "jobs": "List the jobs of a state, or show one.",
    "pause": "Stop workers from claiming jobs of a queue.",
    "resume": "Undo pause.",
    "retry": "Let failed jobs, or completed ones, run again.",
    "promote": "Let delayed jobs run now.",
    "clean": "Remove old jobs of a state.",
    "drain": "Remove all jobs that wait.",
    "obliterate": "Remove a queue with all its jobs.",
    "cancel": "End a job, whether it waits or runs.",
    "scale": "Change the number of children of a running worker.",
    "reload": "Have running workers of a queue load their code anew.",
    "workers": "List the running workers: host, children, load, policy.",
    "top": "Watch hosts, workers, children and jobs: CPU, memory, age, deadline.",
    "web": "Serve the page: queues, jobs, workers and what became of them, in a browser.",
    "dump": "Show where running jobs are: the stack of one, or of all of a worker.",
    "profile": "Sample a running job, or the next runs of a name: where their time goes.",
    "health": "Ask a worker that listens for HTTP whether it takes jobs: for probes.",
    "metrics": "Serve the metrics of queues for Prometheus, without a worker.",
    "doctor": "Show what this machine and this Redis can do, and what is missing.",
    "demo": "Resize large pictures on one core and on all; needs no set-up.",
    "completion": "Print the script that completes the commands in bash, zsh or fish.",
    "server": "Start, stop or show the embedded server of this directory.",
}
# name → file, where several commands share one.
_OPERATING = "pause resume retry promote cancel scale reload clean drain obliterate"
_FILES = dict.fromkeys(_OPERATING.split(), "operating")

# These write a log of their own.
_WITH_A_LOG = frozenset({"run", "demo"})


class _LazyGroup(click.Group):
    """A group whose commands are imported one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the help page."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's file; None when there is no such command."""
        if cmd_name not in _COMMANDS:
            return None
        file = import_module(f"sandboxq.cli.{_FILES.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(file, cmd_name if cmd_name in _FILES else "command")
        return command

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command; an error of ours becomes one message and its exit code."""
        with end_with_exit_code():
            return super().main(*args, **extra)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sandboxq")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run BullMQ jobs on every core, in sandboxed children that cannot stop a heartbeat."""
    if ctx.invoked_subcommand not in _WITH_A_LOG:
        show_notes()
    # Below flags and environment, above the defaults (sandboxq.config says the order).
    settings = project_settings(Path())
    ctx.meta[WORKER_TABLES] = settings.pop("workers", {})
    ctx.default_map = dict.fromkeys(_COMMANDS, settings)
