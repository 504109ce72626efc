"""Resizes photographs; some cannot be read, scans crash, a panorama needs too much memory."""

import io
import os
import random
import time
from typing import Any

from PIL import Image, ImageFilter, ImageOps


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
    """Restore an old photograph, for as long as anybody looks."""
    strokes = int(job.data["strokes"])
    picture = Image.effect_noise((480, 360), 80)
    for stroke in range(1, strokes + 1):
        for message in job.messages():
            print(f"told: {message}")
        picture = toned(sharpened(without_scratches(picture)))
        print(f"stroke {stroke} of {strokes}")
        job.update_progress(round(100 * stroke / strokes))
        time.sleep(0.15)
    return strokes


def without_scratches(picture: Image.Image) -> Image.Image:
    """Return a picture without what is thinner than a hair."""
    return blurred(picture.filter(ImageFilter.MedianFilter(5)), 2)


def sharpened(picture: Image.Image) -> Image.Image:
    """Return a picture with clear edges."""
    return picture.filter(ImageFilter.UnsharpMask(3, 120, 2))


def toned(picture: Image.Image) -> Image.Image:
    """Return a picture with all tones from black to white."""
    return ImageOps.equalize(ImageOps.autocontrast(picture))


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
