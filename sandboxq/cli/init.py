"""``python -m sandboxq init``: the files to begin with, in the current directory."""

from __future__ import annotations

import keyword
from importlib.util import find_spec
from pathlib import Path

import click

from sandboxq.cli.messages import echo
from sandboxq.errors import UsageError

_SETTINGS = """\
[tool.sandboxq]
# What `python -m sandboxq run` takes unless a flag or an environment variable says otherwise.
# Each line without its `# ` is the default, or an example.

# Where Redis or Valkey is; without it, $SANDBOXQ_URL, $REDIS_URL, or an embedded server.
# url = "redis://localhost:6379"

# Children; "auto" is one for each core that this process may use.
# procs = "auto"
# Jobs that one child runs at once: more than 1 for `async def` only.
# concurrency = 1
# What a job may touch: "none", "limits" or "strict".
# policy = "limits"
# Seconds that one attempt may take, unless the job says so itself.
# timeout = 30.0
# Memory of one child.
# memory = "512M"
# A child is replaced after so many jobs.
# max-jobs-per-child = 1000
# Jobs kept after their end: "all" (the default), "none", the newest N, those younger than an age.
# remove-on-complete = "1000,7d"
# remove-on-fail = "all"
# Seconds that running jobs have to finish when the worker is stopped.
# shutdown-timeout = 25.0
"""

_PROCESSOR = '''\
"""Runs the jobs of the queue "{name}": python -m sandboxq run {name}.py"""

from typing import Any

from sandboxq import Job


def process(job: Job) -> dict[str, Any]:
    """Do the work of one job: job.data is what was added, the value is its result."""
    name = job.data["name"]
    job.update_progress(50)
    print("greeting", name)  # goes to the worker's log and to the job's
    return {{"text": f"hello {{name}}"}}
'''

_TEST = '''\
"""Tests of {name}.py on a real worker and a server of their own: python -m pytest"""

from pathlib import Path
from typing import Any

PROCESSOR = Path(__file__).with_name("{name}.py")


def test_a_job_runs(sandboxq_queue: Any, sandboxq_worker: Any) -> None:
    with sandboxq_worker("{name}", PROCESSOR):
        job = sandboxq_queue("{name}").add("first", {{"name": "Ann"}})
        assert job.result(timeout=30) == {{"text": "hello Ann"}}
'''

_NEXT = """\
next:
  python -m sandboxq run {name}.py
  python -m sandboxq add {name} first '{{"name": "Ann"}}' --wait
  python -m pytest test_{name}.py"""


@click.command()
@click.argument("name", default="greet")
def command(name: str) -> None:
    """Write NAME.py, a processor, its test, and settings for pyproject.toml.

    NAME is also the name of the queue. What is there already is left as it is.
    """
    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
        message = f"NAME becomes a module: it must be an identifier such as greet, not {name!r}"
        raise UsageError(message)
    _refuse_taken(name)
    for file, text in (
        (f"{name}.py", _PROCESSOR.format(name=name)),
        (f"test_{name}.py", _TEST.format(name=name)),
    ):
        echo(f"wrote {file}" if _write(file, text) else f"left {file} as it is")
    if _write("pyproject.toml", _SETTINGS):
        echo("wrote pyproject.toml")
    else:
        echo(f"left pyproject.toml as it is; what it may have is:\n\n{_SETTINGS}")
    echo(_NEXT.format(name=name))


def _refuse_taken(name: str) -> None:
    """Raise UsageError for the name of a module that exists elsewhere.

    ``python -m`` takes a file of the working directory in place of Python's own: with a types.py
    there Python itself does not start. In sys.path the working directory is the last here.
    """
    try:
        spec = find_spec(name)
        where = None if spec is None else spec.origin
    except ValueError:  # __main__
        where = "this program"
    if where is not None and Path(where).parent != Path.cwd():
        message = (
            f"{name!r} is the name of a module that Python or a package has ({where}): programs "
            "that are run in this folder would find yours in its place. Take another NAME"
        )
        raise UsageError(message)


def _write(file: str, text: str) -> bool:
    """Write a new file; False when there is one, or anything else of that name.

    Raises: UsageError when nothing can be written here.
    """
    try:
        with Path(file).open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        message = f"{file} cannot be written: {error.strerror}"
        raise UsageError(message) from error
    return True
