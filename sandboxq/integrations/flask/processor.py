"""What children of ``flask sandboxq run`` run: a processor, in an application context for each job.

Imported once by the zygote: the application is made there.
"""

from __future__ import annotations

import os
from functools import wraps
from typing import TYPE_CHECKING, Any

from flask.cli import ScriptInfo

from sandboxq.child.loader import load_processor
from sandboxq.integrations.flask import PROCESSOR_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.child.job import Job

app = ScriptInfo(os.environ.get("FLASK_APP")).load_app()
_loaded = load_processor(os.environ[PROCESSOR_VARIABLE])


def _in_context(function: Callable[[Job], Any]) -> Callable[[Job], Any]:
    @wraps(function)
    def process(job: Job) -> Any:
        with app.app_context():
            return function(job)

    return process


def _in_async_context(function: Callable[[Job], Any]) -> Callable[[Job], Any]:
    @wraps(function)
    async def process(job: Job) -> Any:
        with app.app_context():
            return await function(job)

    return process


process = (_in_async_context if _loaded.is_async else _in_context)(_loaded.function)
setup, teardown = _loaded.setup, _loaded.teardown
