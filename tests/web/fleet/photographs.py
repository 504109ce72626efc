"""Resizes photographs; some cannot be read, scans crash, a panorama needs too much memory."""

import io
import os
import random
import time
from typing import Any

from PIL import Image, ImageFilter


def process(job: Any) -> dict[str, Any] | int | float:
    """Make a photograph smaller."""
    name, width = job.data["photograph"], job.data["width"]
    print(f"opening {name}")
    if job.name == "panorama":
        return stitch(job)
    if job.name == "restore":
        return restore(job)
    if job.name == "scan":
        os.abort()  # as a decoder in C does that meets what it does not know
    if job.data.get("broken"):
        message = f"image file is truncated ({random.randrange(9, 99)} bytes not processed)"
        raise OSError(message)
    picture = Image.effect_noise((900, 600), 60)
    for step in range(1, 5):
        picture = blurred(picture, step)
        job.update_progress(step * 25)
        time.sleep(random.uniform(0.1, job.data.get("seconds", 0.5)))
    smaller = picture.resize((width, width * 2 // 3))
    written = io.BytesIO()
    smaller.save(written, "JPEG", quality=88)
    print(f"wrote {width} × {smaller.height}, {len(written.getvalue()) // 1024} kB")
    return {"width": width, "height": smaller.height, "bytes": len(written.getvalue())}


def blurred(picture: Image.Image, step: int) -> Image.Image:
    """Return a picture without its noise."""
    return picture.filter(ImageFilter.GaussianBlur(step))


def restore(job: Any) -> int:
    """Remove the scratches of an old photograph, for as long as anybody looks."""
    strokes = 0
    picture = Image.effect_noise((1200, 900), 80)
    while strokes < job.data["strokes"]:
        strokes += 1
        for message in job.messages():
            print(f"told: {message}")
        picture = blurred(picture, 1 + strokes % 4)
        print(f"stroke {strokes} of {job.data['strokes']}: {len(picture.histogram())} tones")
        job.update_progress(round(100 * strokes / job.data["strokes"]))
        time.sleep(0.7)
    return strokes


def stitch(job: Any) -> int:
    """Put many photographs side by side, all of them in memory."""
    tiles = []
    for place in range(4000):
        tiles.append(bytearray(4 << 20))
        if place % 10 == 0:
            print(f"tile {place}: {len(tiles) * 4} MB in memory")
            job.update_progress({"tile": place, "of": 4000})
        time.sleep(0.01)
    return len(tiles)
