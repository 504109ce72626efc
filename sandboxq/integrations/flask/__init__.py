"""Flask: queues of an application, ``flask sandboxq``, and an application context for each job.

sandboxq = Sandboxq(app)          # or Sandboxq(), and later sandboxq.init_app(app)
sandboxq.queue("mail").add(…)     # in a view
flask sandboxq run mailer.py      # a worker whose jobs have the application's context
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from flask import current_app

from sandboxq.integrations.arguments import arguments_of_run
from sandboxq.queue.queue import SyncQueue

if TYPE_CHECKING:
    from flask import Flask

PROCESSOR = "sandboxq.integrations.flask.processor"
# What `flask sandboxq run` was given.
PROCESSOR_VARIABLE = "SANDBOXQ_FLASK_PROCESSOR"
_EXTENSION = "sandboxq"


class Sandboxq:
    """The extension. ``SANDBOXQ_URL`` and ``SANDBOXQ_PREFIX`` of the configuration are used."""

    def __init__(self, app: Flask | None = None) -> None:
        """Belong to ``app``, or to those that ``init_app`` is called with."""
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the queues and the command ``flask sandboxq`` to an application."""
        app.extensions[_EXTENSION] = {}
        app.cli.add_command(_command, "sandboxq")

    def queue(self, name: str) -> SyncQueue:
        """Return a queue of the current application; all of its threads share it."""
        queues: dict[str, SyncQueue] = current_app.extensions[_EXTENSION]
        if name in queues:
            return queues[name]
        url = current_app.config.get("SANDBOXQ_URL")
        prefix = current_app.config.get("SANDBOXQ_PREFIX")
        # Of threads that come at once, all get the first one's; the others never connect.
        return queues.setdefault(name, SyncQueue(name, url, prefix=prefix))


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    help="The commands of sandboxq with the application's Redis; `run` gives jobs its context.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def _command(context: click.Context, arguments: tuple[str, ...]) -> None:
    from flask.cli import ScriptInfo  # noqa: PLC0415 - there is one when a command runs

    from sandboxq.cli.main import cli  # noqa: PLC0415 - views need none of it

    app = context.ensure_object(ScriptInfo).load_app()
    for name in ("SANDBOXQ_URL", "SANDBOXQ_PREFIX"):
        if app.config.get(name):
            os.environ.setdefault(name, app.config[name])
    command, *rest = arguments or ("--help",)
    if command == "run":
        rest = _arguments_of_run(context, rest)
    cli.main(args=[command, *rest], prog_name="flask sandboxq")


def _arguments_of_run(context: click.Context, arguments: list[str]) -> list[str]:
    """Have the processor that is named run by ours, in the application's context."""
    from sandboxq.cli.task_queues import queues_served  # noqa: PLC0415 - as above

    if not arguments or arguments[0].startswith("-"):
        message = "name the processor first: flask sandboxq run mailer.py --procs 2"
        raise click.UsageError(message, context)
    processor, *rest = arguments
    os.environ[PROCESSOR_VARIABLE] = processor
    info = context.find_root().obj
    if info is not None and info.app_import_path:
        os.environ.setdefault("FLASK_APP", info.app_import_path)
    return [PROCESSOR, *arguments_of_run(rest, lambda: queues_served(processor))]
