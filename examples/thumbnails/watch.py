"""Watch a folder; for each new photograph, add a resize job to the queue ``thumbnails``.

    python examples/thumbnails/watch.py PHOTOS THUMBNAILS [--width 320] [--every 1.0] [--once]

Needs the standard library and sandboxq. Where Redis is: as for every command of sandboxq.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sandboxq import Queue, QueueError

if TYPE_CHECKING:
    from sandboxq.queue.options import AddOptions
    from sandboxq.queue.queue import SyncQueue

QUEUE = "thumbnails"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
# Only the second look can tell that a file is no longer being written.
LOOKS_OF_ONCE = 2

# Name, data and options of a job, as add_bulk takes it.
Entry = tuple[str, dict[str, object], "AddOptions"]


class Version(NamedTuple):
    """What changes when a file does."""

    size: int
    changed_ns: int


class Watcher:
    """Knows which photographs have been seen, and which of them are still being copied."""

    def __init__(self, queue: SyncQueue, photos: Path, thumbnails: Path, *, width: int) -> None:
        """Add the photographs below ``photos`` to ``queue``."""
        self._queue = queue
        self._photos = photos.resolve()
        self._thumbnails = thumbnails.resolve()
        self._width = width
        self._seen: dict[Path, Version] = {}
        self._added: dict[Path, Version] = {}

    def look(self) -> int:
        """Add a job for each photograph that is new and complete; return how many."""
        now = {path: _version(path) for path in self._pictures()}
        # A file that is as it was at the last look is no longer being written.
        ready = [path for path, version in now.items() if self._seen.get(path) == version]
        new = [path for path in ready if self._added.get(path) != now[path]]
        self._queue.add_bulk([self._job(path, now[path]) for path in new])
        self._seen = now
        self._added.update({path: now[path] for path in new})
        return len(new)

    def _pictures(self) -> list[Path]:
        found = (path for path in self._photos.rglob("*") if path.suffix.lower() in SUFFIXES)
        return sorted(path for path in found if not path.is_relative_to(self._thumbnails))

    def _job(self, path: Path, version: Version) -> Entry:
        target = self._thumbnails / path.relative_to(self._photos)
        data = {"src": str(path), "dst": str(target), "width": self._width}
        # The same version of a photograph is added once, however many watchers there are and
        # however often they are restarted: a job id that exists already adds nothing.
        identity = hashlib.sha256(f"{path} {version} {self._width}".encode()).hexdigest()[:24]
        return "resize", data, {"job_id": f"photo-{identity}", "attempts": 3, "backoff": 1.0}


def _version(path: Path) -> Version:
    try:
        status = path.stat()
    except FileNotFoundError:
        return Version(-1, 0)
    return Version(status.st_size, status.st_mtime_ns)


def main() -> None:
    """Read the arguments and watch until interrupted."""
    parser = argparse.ArgumentParser(description="Add a resize job for each new photograph.")
    parser.add_argument("photos", type=Path, help="the folder to watch")
    parser.add_argument("thumbnails", type=Path, help="where the thumbnails shall be")
    parser.add_argument("--width", type=int, default=320, help="in pixels (default: 320)")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two looks")
    parser.add_argument("--once", action="store_true", help="add what is there, then leave")
    options = parser.parse_args()
    with Queue.sync(QUEUE) as queue:
        watcher = Watcher(queue, options.photos, options.thumbnails, width=options.width)
        watch(watcher, every=options.every, once=options.once)


def watch(watcher: Watcher, *, every: float, once: bool) -> None:
    """Look again and again; when Redis is away, the next look tries what this one could not."""
    looks = 0
    while not once or looks < LOOKS_OF_ONCE:
        try:
            added = watcher.look()
        except QueueError as error:
            print(f"not added, will be tried again: {error}", flush=True)
        else:
            looks += 1
            if added:
                print(f"{added} photographs added", flush=True)
        time.sleep(every)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
