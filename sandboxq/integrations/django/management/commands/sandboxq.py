"""``manage.py sandboxq …``: the commands of sandboxq, with the project's Redis and tasks."""

from __future__ import annotations

import argparse
import os
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError

from sandboxq.integrations.arguments import arguments_of_run
from sandboxq.integrations.django.backend import PROCESSOR, PROCESSOR_VARIABLE, backends_of_project


class Command(BaseCommand):
    """Runs tasks: ``run``; and all other commands of sandboxq: ``stats``, ``jobs``, ``retry``."""

    help = (
        "manage.py sandboxq run [PROCESSOR] [--queue Q] [--procs N] …: run the tasks of a queue, "
        "or a processor of your own, in sandboxed children. All other commands and options are "
        "those of `sandboxq`: see `manage.py sandboxq -- --help`."
    )
    requires_system_checks: ClassVar[list[str]] = []  # type: ignore[misc]  # Django's stubs: of the instance

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take whatever follows."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="COMMAND …")

    def handle(self, *_: Any, arguments: list[str], **__: Any) -> None:
        """Run the command; leaves with its exit code."""
        from sandboxq.cli.main import cli  # noqa: PLC0415 - `manage.py help` need not pay for it

        command, *rest = [each for each in arguments if each != "--"] or ["--help"]
        self._take_settings()
        if command == "run":
            self.check()
            rest = self._arguments_of_run(rest)
        cli.main(args=[command, *rest], prog_name="manage.py sandboxq")

    def _take_settings(self) -> None:
        """Have the command use the Redis of the project, unless the environment names another."""
        for backend in backends_of_project()[:1]:
            if backend.url:
                os.environ.setdefault("SANDBOXQ_URL", backend.url)
            if "prefix" in backend.options:
                os.environ.setdefault("SANDBOXQ_PREFIX", backend.options["prefix"])

    def _arguments_of_run(self, arguments: list[str]) -> list[str]:
        from sandboxq.cli.task_queues import queues_served  # noqa: PLC0415 - as above

        if not arguments or arguments[0].startswith("-"):
            return [PROCESSOR, *arguments_of_run(arguments, self._queues)]
        processor, *rest = arguments
        os.environ[PROCESSOR_VARIABLE] = processor
        return [PROCESSOR, *arguments_of_run(rest, lambda: queues_served(processor))]

    def _queues(self) -> list[str]:
        """Return those of the project: one worker for each, in this process."""
        names = {name for backend in backends_of_project() for name in backend.queues}
        if not names:
            message = "TASKS has no backend of sandboxq with QUEUES: name a queue with --queue"
            raise CommandError(message)
        return sorted(names)
