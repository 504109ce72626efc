"""``sandboxq completion``: the script by which a shell completes commands, options and values."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from sandboxq.cli.messages import echo

_SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog="bash: sandboxq completion bash > ~/.local/share/bash-completion/completions/sandboxq; "
    "zsh: the same into a file _sandboxq in a folder of $fpath; "
    "fish: into ~/.config/fish/completions/sandboxq.fish."
)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that completes `sandboxq` in SHELL."""
    kind = get_completion_class(shell)
    if kind is None:
        message = f"this version of click completes nothing in {shell}"
        raise click.ClickException(message)
    echo(kind(context.find_root().command, {}, "sandboxq", "_SANDBOXQ_COMPLETE").source())
