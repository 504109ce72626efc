"""The root command: finds each subcommand's file when it is asked for."""

from __future__ import annotations

from importlib import import_module

import click

# name → (file, one line for --help). Files are imported on use, so that each command starts fast.
_COMMANDS = {
    "run": "Run a processor: claim jobs from its queue and execute them in sandboxed children.",
    "add": "Add a job to a queue.",
    "stats": "Show counts by state, of every queue or one.",
    "scale": "Change the number of children of a running worker.",
    "demo": "The main job on real photographs, nothing to set up.",
    "server": "The embedded server of this directory: start, stop, status.",
}


class _LazyGroup(click.Group):
    """A group whose commands are imported one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the help page."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's file; None when there is no such command."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"sandboxq.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sandboxq")
def cli() -> None:
    """Run BullMQ jobs on every core, in sandboxed children that cannot stop a heartbeat."""
