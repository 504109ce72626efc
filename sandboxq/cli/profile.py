"""``python -m sandboxq profile``: where the time of a job goes, or of the next runs of a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sandboxq.cli.messages import echo, echo_error
from sandboxq.cli.on_queue import check_exists, run_on_queue
from sandboxq.cli.options import prefix_option, url_option
from sandboxq.errors import JobNotInState, QueueError, UsageError
from sandboxq.model.profile import CLOCKS, LONGEST_PROFILE, MOST_HERTZ, USUAL_HERTZ
from sandboxq.payload.printable import printable_line

if TYPE_CHECKING:
    from sandboxq.model.profile import JobProfile
    from sandboxq.queue.queue import Queue

# Rows of the table.
_MOST_ROWS = 25
_SPEEDSCOPE = ".json"


@click.command()
@click.argument("queue")
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option(
    "--seconds", type=float, default=10.0, show_default=True,
    help=f"How long a running job is sampled, {LONGEST_PROFILE:g} at most.",
)  # fmt: skip
@click.option("--name", help="Instead of a job: have the next runs of this job name sampled.")
@click.option(
    "--runs",
    type=int,
    default=3,
    show_default=True,
    help="With --name: how many; 0: none any more.",
)
@click.option(
    "--within",
    type=float,
    default=3600.0,
    show_default=True,
    help="With --name: for how many seconds they are waited for.",
)
@click.option(
    "--hz",
    type=int,
    default=USUAL_HERTZ,
    show_default=True,
    help=f"Samples a second, {MOST_HERTZ} at most.",
)
@click.option(
    "--clock",
    type=click.Choice(CLOCKS),
    default="wall",
    show_default=True,
    help="wall: also what it waits for; cpu: only what it computes.",
)
@click.option(
    "--last", is_flag=True, help="Take no samples: show the newest profile that the job has."
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a file: for speedscope if its name ends in .json, else folded stacks.",
)
@url_option
@prefix_option
def command(  # noqa: PLR0913 - one for each option
    queue: str, *, job_id: str | None, seconds: float, name: str | None, runs: int, within: float,
    hz: int, clock: str, last: bool, output: Path | None, url: str | None, prefix: str,
) -> None:  # fmt: skip
    """Sample a running JOB of QUEUE, and show in which functions its time is spent.

    A job that does not run shows the newest profile that was kept with it. Profiles of --name are
    kept with their jobs, also of those that fail or are killed.
    """
    if (job_id is None) == (name is None):
        message = "name a job, or give --name for the next runs of a job name"
        raise UsageError(message)

    async def act(jobs: Queue) -> JobProfile | None:
        await check_exists(jobs)
        if name is not None:
            workers = await jobs.profile_next(name, runs=runs, within=within, hz=hz, clock=clock)  # type: ignore[arg-type]  # click has checked it
            echo(
                f"the next {runs} runs of {name!r} are sampled; workers that know of it: {workers}"
            )
            return None
        assert job_id is not None  # noqa: S101 - checked above
        if not last:
            try:
                return await jobs.profile(job_id, seconds=seconds, hz=hz, clock=clock)  # type: ignore[arg-type]  # as above
            except JobNotInState as error:
                kept = await jobs.job_profile(job_id)
                if kept is None:
                    raise
                echo_error(f"{error}; this is the newest profile that was kept\n")
                return kept
        kept = await jobs.job_profile(job_id)
        if kept is None:
            message = f"job {job_id} of queue {queue!r} has no profile"
            raise QueueError(message)
        return kept

    profile = run_on_queue(queue, act, url=url, prefix=prefix)
    if profile is not None:
        _show(profile)
        if output is not None:
            _write(profile, output)


def _show(it: JobProfile) -> None:
    ends = {"time": "its time was up", "end": "the job ended", "died": "its process died"}
    echo(
        f"job {it.job_id}, attempt {it.attempt}: {it.samples} samples in {it.seconds:.1f} s of "
        f"{it.clock} time; {ends.get(it.ended, it.ended)}"
    )
    if it.note:
        echo(f"({it.note})")
    rows = it.by_function()[:_MOST_ROWS]
    if not rows:
        return
    echo("\n   itself    in all  function")
    for function, own, total in rows:
        name = printable_line(f"{function.name}  {function.path}:{function.line}")
        echo(f"{_part(own, it.total)} {_part(total, it.total)}  {name}")


def _part(seconds: float, total: float) -> str:
    return f"{100 * seconds / total if total else 0:7.1f} %"


def _write(profile: JobProfile, output: Path) -> None:
    is_speedscope = output.suffix == _SPEEDSCOPE
    text = json.dumps(profile.speedscope()) if is_speedscope else profile.folded()
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        message = f"{output} cannot be written: {error.strerror}"
        raise UsageError(message) from error
    how = (
        "open it with https://www.speedscope.app, which reads it in the browser"
        if is_speedscope
        else "folded stacks"
    )
    echo(f"\nwritten to {output} ({how})")
