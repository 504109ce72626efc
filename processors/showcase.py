"""What `sandboxq demo --web` shows: jobs of several kinds, by their name.

``resize``: a picture, as processors/resize.py does. ``resize damaged``: a file that is no picture.
``panorama``: takes more memory than its policy grants, and is ended for it. ``album``: waits for
the pictures of a flow. ``watch``: runs for minutes, prints, and reads what the page tells it.
``clean up``: what a schedule adds.
"""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

_SPEC = importlib.util.spec_from_file_location("resize", Path(__file__).with_name("resize.py"))
assert _SPEC is not None  # noqa: S101 - it lies beside this file
assert _SPEC.loader is not None  # noqa: S101 - as above
_resize = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_resize)
# Seconds between two pieces of the panorama: slow enough to be seen on the page.
_PIECE_SECONDS, _PIECE = 0.2, 8 << 20
_MOST_PIECES = 500


def process(job: Any) -> Any:
    """Run the job that its name says."""
    return _ACTIONS[job.name](job)


def _picture(job: Any) -> Any:
    """Resize one picture."""
    print("resizing", Path(job.data["src"]).name, "to", job.data["width"])  # noqa: T201 - is shown
    return _resize.process(job)


def _panorama(_job: Any) -> None:
    """Keep pieces until there is no memory left for them."""
    pieces: list[bytearray] = []
    for number in range(_MOST_PIECES):
        pieces.append(bytearray(b"\x01" * _PIECE))
        print("stitched", number + 1, "pieces")  # noqa: T201 - is shown
        time.sleep(_PIECE_SECONDS)


def _album(job: Any) -> dict[str, int]:
    """Add up what the pictures of the album have."""
    values = job.children_values().values()
    return {"pictures": len(values), "bytes": sum(value["bytes"] for value in values)}


def _watch(job: Any) -> str:
    """Wait for pictures that never come; whoever tells it something is answered in the log."""
    seconds = job.data["seconds"]
    for second in range(seconds):
        for message in job.messages():
            job.log(f"somebody said: {message}")
        if job.cancelled:
            return "told to end"
        job.update_progress(round(100 * second / seconds))
        if second % 5 == 0:
            print("nothing new after", second, "seconds")  # noqa: T201 - is shown
        time.sleep(1)
    return "nothing came"


def _clean_up(_job: Any) -> str:
    time.sleep(0.3)
    return "nothing to clean"


_ACTIONS = {
    "resize": _picture,
    "resize damaged": _picture,
    "panorama": _panorama,
    "album": _album,
    "watch": _watch,
    "clean up": _clean_up,
}
