"""Makes thumbnails of one picture, and says how far it is; runs in a sandboxed child."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from sandboxq import Job


def process(job: Job) -> list[str]:
    """Return the names of the files that were written beside the picture."""
    source, widths = Path(job.data["src"]), job.data["widths"]
    written = []
    for done, width in enumerate(widths, start=1):
        with Image.open(source) as picture:
            picture.thumbnail((width, width))
            target = source.with_name(f"{source.name}-{width}.png")
            picture.save(target)
        written.append(target.name)
        job.update_progress(100 * done // len(widths))
    return written
