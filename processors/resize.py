"""Resize a photograph with Pillow.

Data: ``{"src": path, "dst": path, "width": pixels}``.
Result: ``{"width": pixels, "height": pixels, "bytes": size of dst, "seconds": time it took}``.

The height follows from the picture's aspect ratio; a smaller picture is enlarged to the width. The
format is that of dst's suffix. What the camera noted as orientation is applied; EXIF data (place,
owner) is not copied, the colour profile is. Of an animation the first picture is taken. Missing
directories of dst are made, and dst appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps, UnidentifiedImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_WIDTH = 20_000
JPEG_QUALITY = 85

# A picture twice as large as wanted is the least from which a resize still looks as good as from
# the original; the JPEG decoder can skip what is above it.
REDUCING_GAP = 2.0

# Pillow's formats, loaded once for all children instead of by each one's first job.
Image.init()

ORIENTATION_TAG = 0x0112
FIRST_SIDEWAYS_ORIENTATION = 5

# What Pillow raises for files that are no pictures, or are cut off or damaged in the middle.
UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError)


def process(job: Any) -> dict[str, Any]:
    """Write the picture ``src``, resized to ``width`` pixels, to ``dst``.

    Raises: TypeError, ValueError and FileNotFoundError, each naming the field of ``job.data``.
    """
    began = time.perf_counter()
    source, target, width = _checked(job.data)
    file_format = _format_from_suffix(target)
    picture = _resized(source, width)
    _write(picture, target, file_format)
    return {
        "width": picture.width,
        "height": picture.height,
        "bytes": target.stat().st_size,
        "seconds": round(time.perf_counter() - began, 6),
    }


# ── input ───────────────────────────────────────────────────────────────────


def _checked(data: Any) -> tuple[Path, Path, int]:
    if not isinstance(data, dict):
        message = f"data must be an object with src, dst and width, not {data!r}"
        raise TypeError(message)
    source, target = _path(data, "src"), _path(data, "dst")
    width = data.get("width")
    if not isinstance(width, int) or isinstance(width, bool) or not 1 <= width <= MAX_WIDTH:
        raise ValueError(_wrong(data, "width", f"an integer from 1 to {MAX_WIDTH}"))
    if not source.exists():
        message = f"data.src: there is no file {str(source)!r} (seen from {str(Path.cwd())!r})"
        raise FileNotFoundError(message)
    for field, path in (("src", source), ("dst", target)):
        if path.is_dir():
            message = f"data.{field} must be a file, but {str(path)!r} is a directory"
            raise ValueError(message)
    return source, target, width


def _path(data: dict[str, Any], field: str) -> Path:
    value = data.get(field)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(_wrong(data, field, "a path of a file"))
    return Path(value)


def _wrong(data: dict[str, Any], field: str, allowed: str) -> str:
    if field not in data:
        return f"data.{field} is missing; it must be {allowed}"
    return f"data.{field} must be {allowed}, not {data[field]!r}"


def _format_from_suffix(target: Path) -> str:
    file_format = Image.registered_extensions().get(target.suffix.lower())
    if file_format is None or file_format not in Image.SAVE:
        message = (
            f"data.dst must end in the suffix of a format that Pillow can write "
            f"(.jpg, .png, .webp, …), not {target.suffix!r}"
        )
        raise ValueError(message)
    return file_format


# ── pictures ────────────────────────────────────────────────────────────────


def _resized(source: Path, width: int) -> Image.Image:
    with _readable(source), Image.open(source) as image:
        is_sideways = image.getexif().get(ORIENTATION_TAG, 1) >= FIRST_SIDEWAYS_ORIENTATION
        across, down = image.size[::-1] if is_sideways else image.size
        height = max(1, round(down * width / across))
        wanted = (round(width * REDUCING_GAP), round(height * REDUCING_GAP))
        image.draft(None, wanted[::-1] if is_sideways else wanted)
        upright = _with_smooth_colours(ImageOps.exif_transpose(image))
        return upright.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)


@contextlib.contextmanager
def _readable(source: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise
    except Image.DecompressionBombError as error:
        message = f"data.src: {str(source)!r} has more pixels than Pillow accepts: {error}"
        raise ValueError(message) from error
    except UNREADABLE as error:
        message = f"data.src: {str(source)!r} is no picture that Pillow can read: {error}"
        raise ValueError(message) from error


def _with_smooth_colours(image: Image.Image) -> Image.Image:
    """Return the image in a mode whose colours can be mixed: L, LA, RGB or RGBA."""
    if image.mode in {"L", "LA", "RGB", "RGBA"}:
        return image
    if image.mode.startswith("I"):
        # 16-bit grey; convert() alone would cut every value above 255 to white.
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "CMYK":
        # Its profile describes inks.
        image.info.pop("icc_profile", None)
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _write(picture: Image.Image, target: Path, file_format: str) -> None:
    options: dict[str, Any] = {"icc_profile": picture.info.get("icc_profile")}
    if file_format == "JPEG":
        picture = _on_white(picture)
        options["quality"] = JPEG_QUALITY
    target.parent.mkdir(parents=True, exist_ok=True)
    # In dst's own directory, so that the rename is one step; named so that two children differ.
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        picture.save(unfinished, file_format, **options)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _on_white(picture: Image.Image) -> Image.Image:
    """Return the picture without transparency, which JPEG does not have."""
    if picture.mode not in {"LA", "RGBA"}:
        return picture
    paper = Image.new("RGBA", picture.size, "white")
    paper.alpha_composite(picture.convert("RGBA"))
    return paper.convert("RGB")
