"""Generates the demo's pictures: as large as a camera's photographs, and as hard to compress."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

# What `--from` takes.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
SIZE = (4000, 3000)
JPEG_QUALITY = 90
# Sky and ground before they are enlarged; each cell becomes 250 pixels of soft gradient.
CELLS = (16, 12)
SKY, GROUND = (90, 140, 210), (80, 110, 60)
COLOUR_SPREAD = 18
LAMPS = 150
LAMP_RADIUS = (20, 300)
# Grain is what makes a photograph's file large: this much gives 4 MB, as cameras do.
GRAIN = 24
GRAIN_TILE = 1000


async def pictures_in(folder: Path, count: int, *, on_ready: Callable[[], None]) -> list[Path]:
    """Return ``count`` generated pictures in ``folder``; those that are there are not made anew.

    Each is made from its own number, so that another run makes the same ones.
    """
    paths = [folder / f"picture-{number:03}.jpg" for number in range(1, count + 1)]
    loop = asyncio.get_running_loop()

    async def ready(number: int, path: Path) -> None:
        # Threads are enough: Pillow releases the GIL for nearly all of it.
        await loop.run_in_executor(None, _make_missing, number, path)
        on_ready()

    await asyncio.gather(*(ready(number, path) for number, path in enumerate(paths, start=1)))
    return paths


def own_pictures(folder: Path, count: int) -> list[Path]:
    """Return the first ``count`` pictures of ``folder``, by name.

    Raises:
        UsageError: there are none.

    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        message = f"there is no picture in {folder}: wanted are files {', '.join(SUFFIXES)}"
        raise UsageError(message)
    return found[:count]


def require_pillow() -> None:
    """Say what the demo needs. Raises: UsageError, Pillow is not installed."""
    try:
        import PIL.Image  # noqa: F401, PLC0415 - an extra: only the demo needs it
    except ImportError as error:
        message = "the demo makes and resizes pictures with Pillow: pip install pillow"
        raise UsageError(message) from error


def _make_missing(number: int, path: Path) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = random.Random(number)  # noqa: S311 - scenery, not secrets
    image = _with_grain(_with_lamps(_landscape(rng), rng), rng)
    unfinished = path.with_suffix(".part")
    image.save(unfinished, "JPEG", quality=JPEG_QUALITY)
    unfinished.replace(path)


def _landscape(rng: random.Random) -> Image.Image:
    from PIL import Image  # noqa: PLC0415 - an extra, see above

    across, down = CELLS
    cells = Image.new("RGB", CELLS)
    for y in range(down):
        base = SKY if y < down // 2 else GROUND
        for x in range(across):
            red, green, blue = (round(rng.gauss(level, COLOUR_SPREAD)) for level in base)
            cells.putpixel((x, y), (red, green, blue))
    return cells.resize(SIZE, Image.Resampling.BICUBIC)


def _with_lamps(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return the image with discs of any colour: sharp edges, as things in photographs have."""
    from PIL import ImageDraw  # noqa: PLC0415 - an extra, see above

    draw = ImageDraw.Draw(image)
    for _ in range(LAMPS):
        x, y, radius = rng.randrange(SIZE[0]), rng.randrange(SIZE[1]), rng.randrange(*LAMP_RADIUS)
        colour = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return image


def _with_grain(image: Image.Image, rng: random.Random) -> Image.Image:
    from PIL import Image, ImageChops  # noqa: PLC0415 - an extra, see above

    tile = Image.effect_noise((GRAIN_TILE, GRAIN_TILE), GRAIN)
    grain = Image.new("L", SIZE)
    for x in range(0, SIZE[0], GRAIN_TILE):
        for y in range(0, SIZE[1], GRAIN_TILE):
            grain.paste(tile.transpose(rng.choice(list(Image.Transpose))), (x, y))
    return ImageChops.soft_light(image, Image.merge("RGB", (grain, grain, grain)))
