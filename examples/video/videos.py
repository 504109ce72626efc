"""Makes a video smaller: cuts it in pieces, transcodes them on every core, joins them.

convert ──► cut ──► transcode, one job a piece ──► convert again ──► join
"""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from imageio_ffmpeg import get_ffmpeg_exe

from sandboxq import Parent, WaitingChildrenError, current_job, task

if TYPE_CHECKING:
    from collections.abc import Iterator


@task(queue="videos", timeout=600)
def convert(src: str, dst: str, width: int, piece_seconds: float = 5) -> int:
    """Write ``src`` to ``dst`` with this width; return the number of pieces.

    Runs twice: before the jobs that transcode the pieces, and after them.
    """
    job = current_job()
    assert job is not None  # noqa: S101 - it adds jobs, so it is one
    pieces = Path(f"{dst}.pieces")
    done = job.children_values()
    if done:
        join(sorted(done.values()), dst)
        shutil.rmtree(pieces)
        return len(done)
    found = cut(src, pieces, piece_seconds)
    for piece, seconds in found:
        # The id: an attempt after this one adds none twice. A piece that fails fails the video.
        transcode.using(
            job_id=f"{job.id}-{piece.stem}", parent=Parent(job.id, job.queue_name, "fail")
        ).enqueue(str(piece), seconds, width)
    job.update_progress({"pieces": len(found)})
    raise WaitingChildrenError


@task(queue="videos", timeout=300, attempts=3)
def transcode(piece: str, seconds: float, width: int) -> str:
    """Make one piece smaller; return where it is."""
    job = current_job()
    small = f"{piece}.small.mkv"
    # One thread: the other cores have pieces of their own.
    codec = ("-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-c:a", "copy")
    for at in ffmpeg("-i", piece, "-vf", f"scale={width}:-2", *codec, small):
        if job is not None:
            job.update_progress(round(100 * min(at / seconds, 1)))
    if job is not None:
        job.update_progress(100)
    return small


def cut(src: str, folder: Path, piece_seconds: float) -> list[tuple[Path, float]]:
    """Cut a video at the next key frames, without decoding it; return pieces and lengths."""
    folder.mkdir(exist_ok=True)
    table = folder / "pieces.csv"
    how = ("-f", "segment", "-segment_time", str(piece_seconds), "-reset_timestamps", "1")
    run("-i", src, "-c", "copy", *how, "-segment_list", str(table), str(folder / "%04d.mkv"))
    with table.open() as file:
        return [(folder / name, float(end) - float(start)) for name, start, end in csv.reader(file)]


def join(pieces: list[str], dst: str) -> None:
    """Put pieces one after the other, without decoding them; ``dst`` is there when all of it is."""
    table = Path(pieces[0]).with_name("small.txt")
    table.write_text("".join(f"file '{Path(piece).name}'\n" for piece in pieces))
    whole = table.with_name(f"whole{Path(dst).suffix}")
    run("-f", "concat", "-i", str(table), "-c", "copy", str(whole))
    whole.replace(dst)


def run(*arguments: str) -> None:
    """Run ffmpeg to its end."""
    for _ in ffmpeg(*arguments):
        pass


def ffmpeg(*arguments: str) -> Iterator[float]:
    """Run ffmpeg; yield how many seconds of video it has written. What it says is in the job's log.

    Raises: RuntimeError.
    """
    says = ("-nostdin", "-y", "-loglevel", "error", "-progress", "pipe:1", "-stats_period", "0.2")
    command = [get_ffmpeg_exe(), *says, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - no shell
        for line in process.stdout or ():
            name, _, value = line.strip().partition("=")
            if name == "out_time_us" and value.isdigit():
                yield int(value) / 1e6
    if process.returncode:
        message = f"ffmpeg ended with {process.returncode}, see the job's log"
        raise RuntimeError(message)
