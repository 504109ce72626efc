"""Resize a photograph with Pillow.

Data: ``{"src": path, "dst": path, "width": pixels}``, and ``"metadata": true`` if EXIF data, XMP
and comments (place, owner) are to be copied; else nothing of the kind is.
Result: ``{"width": pixels, "height": pixels, "bytes": size of dst, "seconds": time it took}``.

The height follows from the picture's aspect ratio; a smaller picture is enlarged to the width. The
format is that of dst's suffix. What the camera noted as orientation is applied, the colour profile
is copied. Of an animation the first picture is taken. Missing directories of dst are made, and dst
appears whole or not at all. A picture may have MAX_SOURCE_PIXELS, a result MAX_PIXELS and MAX_WIDTH
on each side.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageCms, ImageMath, UnidentifiedImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_WIDTH = 20_000
MAX_PIXELS = 100_000_000
# As far as Pillow goes.
MAX_SOURCE_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)
# That a picture has half as many, or that its EXIF data are cut off, is nothing to be heard of.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")
# The longest side of formats that have less room than MAX_WIDTH.
LONGEST_SIDES = {"WEBP": 16_383, "ICO": 256}
JPEG_QUALITY = 85

# A picture twice as large as wanted is the least from which a resize still looks as good as from
# the original; the JPEG decoder can skip what is above it.
REDUCING_GAP = 2.0

# Pillow's formats, loaded once for all children instead of by each one's first job.
Image.init()

ORIENTATION_TAG = 0x0112
FIRST_SIDEWAYS_ORIENTATION = 5
# What makes a picture upright that was noted with this orientation.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What Pillow raises for files that are no pictures, or are cut off or damaged in the middle.
UNREADABLE = (
    UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError,
    ArithmeticError, AttributeError, RuntimeError, struct.error,
)  # fmt: skip

# What the colours of a profile are, by the bytes of its header that say so.
PROFILE_COLOURS = {b"RGB ": ("RGB", "RGBA"), b"GRAY": ("L", "LA")}


class Refused(ValueError):
    """A picture that can be read, but is not taken; the message names the field."""


def process(job: Any) -> dict[str, Any]:
    """Write the picture ``src``, resized to ``width`` pixels, to ``dst``.

    Raises: TypeError, ValueError and FileNotFoundError, each naming the field of ``job.data``.
    """
    began = time.perf_counter()
    source, target, width = _checked(job.data)
    file_format = _format_from_suffix(target)
    picture, metadata = _resized(source, width, file_format)
    _write(picture, target, file_format, metadata if job.data.get("metadata") is True else {})
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


def _resized(source: Path, width: int, file_format: str) -> tuple[Image.Image, dict[str, Any]]:
    """Return the picture, upright, and what it tells besides."""
    with _readable(source), Image.open(source) as image:
        _refuse_bombs(source, image.size)
        orientation = _orientation(image)
        is_sideways = orientation >= FIRST_SIDEWAYS_ORIENTATION
        across, down = image.size[::-1] if is_sideways else image.size
        height = max(1, round(down * width / across))
        _refuse_too_large(width, height, file_format, of=(across, down))
        wanted = (round(width * REDUCING_GAP), round(height * REDUCING_GAP))
        image.draft(None, wanted[::-1] if is_sideways else wanted)
        image.load()
        metadata = _metadata(image)
        profile = image.info.get("icc_profile")
        picture = _with_smooth_colours(image)
        if orientation in UPRIGHT:
            picture = picture.transpose(UPRIGHT[orientation])
        size, smooth = (width, height), Image.Resampling.LANCZOS
        picture = picture.resize(size, smooth, reducing_gap=REDUCING_GAP)
        picture.info = {"icc_profile": profile}
        return picture, metadata


def _orientation(image: Image.Image) -> int:
    """Return what the camera noted, 1 when that is nothing that makes sense.

    Cameras and phones write it as two numbers, as text, or as bytes. Pillow applies that of a TIFF.
    """
    try:
        noted: Any = image.getexif().get(ORIENTATION_TAG, 1)
        if isinstance(noted, tuple):
            noted = noted[0]
        if isinstance(noted, bytes):
            noted = noted.strip(b"\0 ")
            noted = noted[0] if len(noted) == 1 and noted[0] in UPRIGHT else noted.decode()
        if isinstance(noted, str):
            noted = noted.strip("\0 ")
        number = int(noted)
    except UNREADABLE:
        return 1  # whatever is wrong with the notes, the picture itself may be well
    return number if number in UPRIGHT and image.format != "TIFF" else 1


def _metadata(image: Image.Image) -> dict[str, Any]:
    """Return what the file tells besides the picture; the orientation is applied, and left out."""
    metadata = {name: image.info[name] for name in ("comment", "xmp") if image.info.get(name)}
    with contextlib.suppress(*UNREADABLE):
        exif = image.getexif()
        exif.pop(ORIENTATION_TAG, None)
        if len(exif):
            metadata["exif"] = exif.tobytes()
    return metadata


def _refuse_bombs(source: Path, size: tuple[int, int]) -> None:
    across, down = size
    if across * down > MAX_SOURCE_PIXELS:
        message = (
            f"data.src: {str(source)!r} has {across} × {down} pixels, more than the "
            f"{MAX_SOURCE_PIXELS} that a picture may have"
        )
        raise Refused(message)


def _refuse_too_large(width: int, height: int, file_format: str, *, of: tuple[int, int]) -> None:
    side = min(MAX_WIDTH, LONGEST_SIDES.get(file_format, MAX_WIDTH))
    if max(width, height) > side or width * height > MAX_PIXELS:
        message = (
            f"data.width: {width} makes {width} × {height} pixels of {of[0]} × {of[1]}; a "
            f"{file_format} picture may have {side} on a side and {MAX_PIXELS} in all"
        )
        raise Refused(message)


@contextlib.contextmanager
def _readable(source: Path) -> Iterator[None]:
    try:
        yield
    except (PermissionError, Refused):
        raise
    except Image.DecompressionBombError as error:
        message = f"data.src: {str(source)!r} has more pixels than Pillow accepts: {error}"
        raise ValueError(message) from error
    except UNREADABLE as error:
        message = f"data.src: {str(source)!r} is no picture that Pillow can read: {error}"
        raise ValueError(message) from error


def _with_smooth_colours(image: Image.Image) -> Image.Image:
    """Return the image in a mode whose colours can be mixed: L, LA, RGB or RGBA.

    A colour that PNG declares to be transparent becomes transparency: mixed with its neighbours it
    would be none of theirs.
    """
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        return _grey_of_numbers(image)
    if mode == "LAB":
        image.load()
        return _from_lab(image)
    if mode in {"LA", "RGBA"} or (mode in {"L", "RGB"} and "transparency" not in image.info):
        return image
    if mode in {"1", "L"}:
        return image.convert("LA" if "transparency" in image.info else "L")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _grey_of_numbers(image: Image.Image) -> Image.Image:
    """Return a picture of 16 or 32 bits or of fractions as one of 8: what is white is told by use.

    convert() alone would cut every value above 255 to white, and make fractions black.
    """
    transparent = image.info.get("transparency")
    values = image if image.mode == "F" else image.convert("I")
    if image.mode == "I" and image.format != "PNG":
        white = _white_of(values, (255, 65535))
    elif image.mode == "F":
        white = _white_of(values, (1, 255, 65535))
    else:
        white = 65535
    # Scaled by multiplication alone, which Pillow does without a table.
    scale = 1 / 256 if white == 65535 else 255 / white  # noqa: PLR2004 - sixteen bits
    grey = values.point(lambda value: value * scale).convert("L")
    if isinstance(transparent, int):
        alpha = ImageMath.lambda_eval(
            lambda of: of["convert"](of["notequal"](of["values"], transparent) * 255, "L"),
            values=values,
        )
        grey = Image.merge("LA", (grey, alpha))
    return grey


def _white_of(image: Image.Image, candidates: tuple[int, ...]) -> int:
    """Return the least value of white that all values are below.

    Raises: Refused when there is none: then it is a measurement and no picture.
    """
    low, high = image.getextrema()
    for white in candidates:
        if (
            isinstance(low, int | float)
            and isinstance(high, int | float)
            and 0 <= low <= high <= white
        ):
            return white
    message = (
        f"data.src: its values go from {low} to {high}: what is white is not told. Scale them to "
        f"0 … {candidates[-1]}"
    )
    raise Refused(message)


def _from_lab(image: Image.Image) -> Image.Image:
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:
        message = "data.src: its colours cannot be converted"
        raise Refused(message)
    return converted


def _write(picture: Image.Image, target: Path, file_format: str, metadata: dict[str, Any]) -> None:
    profile = picture.info.pop("icc_profile", None)
    options: dict[str, Any] = dict(metadata)
    if file_format == "JPEG":
        picture = _on_white(picture)
        options["quality"] = JPEG_QUALITY
    if _fits(profile, picture.mode):
        options["icc_profile"] = profile
    target.parent.mkdir(parents=True, exist_ok=True)
    # In dst's own directory, so that the rename is one step; named so that two children differ.
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        picture.save(unfinished, file_format, **options)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _fits(profile: Any, mode: str) -> bool:
    """Tell whether a profile describes these colours: not inks, nor those before a conversion."""
    colours = profile[16:20] if isinstance(profile, bytes) else b""
    return mode in PROFILE_COLOURS.get(colours, ())


def _on_white(picture: Image.Image) -> Image.Image:
    """Return the picture without transparency, which JPEG does not have."""
    if picture.mode not in {"LA", "RGBA"}:
        return picture
    paper = Image.new("RGBA", picture.size, "white")
    paper.alpha_composite(picture.convert("RGBA"))
    return paper.convert("RGB")
