"""Has a video made smaller, and shows how far it is: `python small.py SRC DST WIDTH`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from videos import convert

from sandboxq import JobFailed, QueueEvents


def main(src: str, dst: str, width: str) -> None:
    """Enqueue the job, follow its pieces, print the percentage when it grows."""
    progress: dict[str, Any] = {}
    shown, pieces = 0, 1
    with QueueEvents.sync("videos", names=["progress", "completed", "failed"]) as events:
        job = convert.enqueue(str(Path(src).absolute()), str(Path(dst).absolute()), int(width))
        for event in events:
            if event.job_id == job.id and event.name != "progress":
                break
            if event.job_id == job.id:
                pieces = event.fields["data"]["pieces"]
            elif event.name == "progress" and str(event.job_id).startswith(f"{job.id}-"):
                progress[str(event.job_id)] = event.fields["data"]
            percent = sum(progress.values()) // pieces
            if percent > shown:
                shown = percent
                print(f"{shown} %", flush=True)
    try:
        print(f"{dst}: made of {job.result(timeout=10)} pieces")
    except JobFailed as error:
        sys.exit(f"{dst}: {error.reason}")


if __name__ == "__main__":
    main(*sys.argv[1:])
