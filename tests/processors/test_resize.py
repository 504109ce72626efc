"""The ready-made resize processor, on pictures such as cameras and users make them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[[str, Any], Any]

ORIENTATION = 0x0112
MAKER = 0x010F


def photograph(width: int, height: int, *, mode: str = "RGB") -> Image.Image:
    """Return a picture with what photographs have: light that falls off, noise, edges."""
    down, across = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(7).normal(0, 6, (height, width))
    red = 255 * across / width + noise
    green = 255 * down / height + noise
    blue = 255 - red / 2 + noise
    pixels = np.stack([red, green, blue], axis=-1).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 3, height // 3, width // 2, height // 2), fill="white")
    return image.convert(mode)


def test_the_width_is_as_asked_and_the_aspect_ratio_stays(tmp_path: Path, run: Run) -> None:
    """The main job: a thumbnail with the right shape, and a result that says so."""
    photograph(1200, 900).save(tmp_path / "a.jpg", quality=92)

    result = run(
        "resize", {"src": f"{tmp_path}/a.jpg", "dst": f"{tmp_path}/small.jpg", "width": 320}
    )

    with Image.open(tmp_path / "small.jpg") as small:
        assert (small.size, small.format) == ((320, 240), "JPEG")
    assert result["width"] == 320
    assert result["height"] == 240
    assert result["bytes"] == (tmp_path / "small.jpg").stat().st_size
    assert 0 < result["seconds"] < 30


def test_the_picture_is_the_same_picture(tmp_path: Path, run: Run) -> None:
    """Draft decoding and reducing must cost no visible quality against a plain resize."""
    original = photograph(1600, 1200)
    original.save(tmp_path / "a.jpg", quality=95)

    run("resize", {"src": f"{tmp_path}/a.jpg", "dst": f"{tmp_path}/b.png", "width": 200})

    plain = np.asarray(original.resize((200, 150), Image.Resampling.LANCZOS), dtype=float)
    with Image.open(tmp_path / "b.png") as image:
        ours = np.asarray(image, dtype=float)
    assert np.abs(ours - plain).mean() < 2.0


@pytest.mark.parametrize(
    ("orientation", "size"), [(1, (100, 50)), (3, (100, 50)), (6, (100, 200)), (8, (100, 200))]
)
def test_the_orientation_of_the_camera_is_applied(
    tmp_path: Path, run: Run, orientation: int, size: tuple[int, int]
) -> None:
    """A portrait photograph stored lying down must come out standing, and only once."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    photograph(800, 400).save(tmp_path / "a.jpg", exif=exif)

    run("resize", {"src": f"{tmp_path}/a.jpg", "dst": f"{tmp_path}/b.jpg", "width": 100})

    with Image.open(tmp_path / "b.jpg") as image:
        assert image.size == size
        assert image.getexif().get(ORIENTATION, 1) == 1


def test_a_turned_picture_is_turned_the_right_way(tmp_path: Path, run: Run) -> None:
    """Orientation 6 means: the camera's left edge is the picture's top."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = Image.new("RGB", (400, 200), "black")
    image.paste("white", (0, 0, 200, 200))
    image.save(tmp_path / "a.jpg", exif=exif)

    run("resize", {"src": f"{tmp_path}/a.jpg", "dst": f"{tmp_path}/b.png", "width": 100})

    with Image.open(tmp_path / "b.png") as turned:
        assert turned.size == (100, 200)
        assert turned.getpixel((50, 20)) == (255, 255, 255)
        assert turned.getpixel((50, 180)) == (0, 0, 0)


def test_camera_data_is_not_copied_but_the_colour_profile_is(tmp_path: Path, run: Run) -> None:
    """Thumbnails get published: no place or owner in them, yet the colours must be right."""
    exif = Image.Exif()
    exif[MAKER] = "secret maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photograph(400, 300).save(tmp_path / "a.jpg", exif=exif, icc_profile=profile)

    run("resize", {"src": f"{tmp_path}/a.jpg", "dst": f"{tmp_path}/b.jpg", "width": 100})

    with Image.open(tmp_path / "b.jpg") as image:
        assert dict(image.getexif()) == {}
        assert image.info["icc_profile"] == profile


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_every_kind_of_picture_into_every_format(
    tmp_path: Path, run: Run, mode: str, suffix: str
) -> None:
    """Users have scans, screenshots and print files; none may fail for its colour mode."""
    source = tmp_path / "a.tif"
    if mode == "I;16":
        Image.fromarray(np.full((300, 400), 40_000, np.uint16)).save(source)
    else:
        photograph(400, 300).convert(mode).save(source)

    run("resize", {"src": str(source), "dst": f"{tmp_path}/b{suffix}", "width": 100})

    with Image.open(tmp_path / f"b{suffix}") as image:
        assert image.size == (100, 75)


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path: Path, run: Run) -> None:
    """Pillow's plain conversion turns almost all of a 16-bit scan white."""
    Image.fromarray(np.full((300, 400), 32_768, np.uint16)).save(tmp_path / "scan.png")

    run("resize", {"src": f"{tmp_path}/scan.png", "dst": f"{tmp_path}/b.png", "width": 100})

    with Image.open(tmp_path / "b.png") as image:
        assert image.getpixel((50, 30)) == pytest.approx(128, abs=1)


def test_transparent_becomes_white_in_a_jpeg(tmp_path: Path, run: Run) -> None:
    """JPEG has no transparency; black boxes around logos are what users complain about."""
    Image.new("RGBA", (400, 300), (0, 0, 0, 0)).save(tmp_path / "logo.png")

    run("resize", {"src": f"{tmp_path}/logo.png", "dst": f"{tmp_path}/b.jpg", "width": 100})

    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getpixel((50, 30)) == (255, 255, 255)


def test_a_smaller_picture_is_enlarged_to_the_width(tmp_path: Path, run: Run) -> None:
    """The width asked for is the width that comes out, always."""
    photograph(60, 40).save(tmp_path / "a.png")

    result = run("resize", {"src": f"{tmp_path}/a.png", "dst": f"{tmp_path}/b.png", "width": 300})

    assert (result["width"], result["height"]) == (300, 200)


def test_a_very_flat_picture_keeps_one_row(tmp_path: Path, run: Run) -> None:
    """Rounding to a height of 0 would be an error inside Pillow."""
    photograph(2000, 3).save(tmp_path / "line.png")

    result = run("resize", {"src": f"{tmp_path}/line.png", "dst": f"{tmp_path}/b.png", "width": 50})

    assert result["height"] == 1


def test_directories_of_dst_are_made(tmp_path: Path, run: Run) -> None:
    """A folder per day or user is usual; nobody makes it beforehand."""
    photograph(200, 100).save(tmp_path / "a.jpg")

    run("resize", {"src": f"{tmp_path}/a.jpg", "dst": f"{tmp_path}/x/y/b.jpg", "width": 50})

    assert (tmp_path / "x/y/b.jpg").exists()


def test_the_thumbnail_has_ordinary_file_rights(tmp_path: Path, run: Run) -> None:
    """A web server must be able to read it; temporary files often are for their owner only."""
    photograph(200, 100).save(tmp_path / "a.jpg")
    umask = os.umask(0o022)

    run("resize", {"src": f"{tmp_path}/a.jpg", "dst": f"{tmp_path}/b.jpg", "width": 50})

    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "b.jpg").stat().st_mode) == 0o644


def test_nothing_is_left_behind_when_writing_fails(tmp_path: Path, run: Run) -> None:
    """A failed job leaves the old thumbnail as it was, and no half of a new one."""
    photograph(100, 30_000).save(tmp_path / "tall.png")
    target = tmp_path / "out" / "b.webp"
    target.parent.mkdir()
    target.write_bytes(b"the old one")

    # WebP cannot be taller than 16,383 pixels, which shows only while it is written.
    with pytest.raises((OSError, ValueError)):
        run("resize", {"src": f"{tmp_path}/tall.png", "dst": str(target), "width": 100})

    assert [path.name for path in target.parent.iterdir()] == ["b.webp"]
    assert target.read_bytes() == b"the old one"


def test_a_cut_off_photograph_is_named(tmp_path: Path, run: Run) -> None:
    """Half an upload is the usual broken picture; it must fail and say which file it was."""
    photograph(800, 600).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(ValueError, match=r"data\.src: '.*half\.jpg' is no picture"):
        run("resize", {"src": f"{tmp_path}/half.jpg", "dst": f"{tmp_path}/b.jpg", "width": 700})

    assert not (tmp_path / "b.jpg").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n1234"])
def test_a_file_that_is_no_picture_is_named(tmp_path: Path, run: Run, content: bytes) -> None:
    """The error of the library underneath would not name the field."""
    (tmp_path / "a.jpg").write_bytes(content)

    with pytest.raises(ValueError, match=r"data\.src: '.*a\.jpg' is no picture"):
        run("resize", {"src": f"{tmp_path}/a.jpg", "dst": f"{tmp_path}/b.jpg", "width": 50})


def test_a_missing_file_is_named(tmp_path: Path, run: Run) -> None:
    """The most usual mistake of all, with the place from which relative paths count."""
    with pytest.raises(FileNotFoundError, match=r"data\.src: there is no file '.*none\.jpg'"):
        run("resize", {"src": f"{tmp_path}/none.jpg", "dst": f"{tmp_path}/b.jpg", "width": 50})


@pytest.mark.parametrize("width", [0, -1, 20_001, 3.5, "abc", "320", None, True, [320]])
def test_a_wrong_width_is_named_with_what_is_allowed(tmp_path: Path, run: Run, width: Any) -> None:
    """The reader of failedReason must see field, rule and value."""
    photograph(10, 10).save(tmp_path / "a.png")

    with pytest.raises(ValueError, match="must be an integer from 1 to 20000, not") as caught:
        run("resize", {"src": f"{tmp_path}/a.png", "dst": f"{tmp_path}/b.png", "width": width})

    assert str(caught.value).startswith("data.width")
    assert repr(width) in str(caught.value)


@pytest.mark.parametrize("field", ["src", "dst", "width"])
def test_a_missing_field_is_named(tmp_path: Path, run: Run, field: str) -> None:
    """`not None` would hide a misspelled name."""
    photograph(10, 10).save(tmp_path / "a.png")
    data = {"src": f"{tmp_path}/a.png", "dst": f"{tmp_path}/b.png", "width": 5}
    del data[field]

    with pytest.raises(ValueError, match=rf"data\.{field} is missing"):
        run("resize", data)


@pytest.mark.parametrize("data", [None, "a.jpg", 7, ["a.jpg", "b.jpg", 320]])
def test_data_of_another_shape_is_refused(run: Run, data: Any) -> None:
    """Any JSON may arrive."""
    with pytest.raises(TypeError, match="data must be an object with src, dst and width"):
        run("resize", data)


@pytest.mark.parametrize("dst", ["b.txt", "b", "b.", ".jpg"])
def test_an_unwritable_format_is_named(tmp_path: Path, run: Run, dst: str) -> None:
    """Guessing a format would write a file that its name lies about."""
    photograph(10, 10).save(tmp_path / "a.png")

    with pytest.raises(ValueError, match=r"data\.dst must end in the suffix"):
        run("resize", {"src": f"{tmp_path}/a.png", "dst": f"{tmp_path}/{dst}", "width": 5})


@pytest.mark.parametrize("field", ["src", "dst"])
def test_a_directory_is_refused(tmp_path: Path, run: Run, field: str) -> None:
    """A forgotten file name is told as such."""
    photograph(10, 10).save(tmp_path / "a.png")
    (tmp_path / "folder.png").mkdir()
    data = {"src": f"{tmp_path}/a.png", "dst": f"{tmp_path}/b.png", "width": 5}

    with pytest.raises(ValueError, match=rf"data\.{field} must be a file.*is a directory"):
        run("resize", data | {field: f"{tmp_path}/folder.png"})


def test_a_decompression_bomb_is_refused(tmp_path: Path, run: Run) -> None:
    """A few kilobytes must not become gigabytes of memory."""
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")

    with pytest.raises(ValueError, match=r"more pixels than Pillow accepts"):
        run("resize", {"src": f"{tmp_path}/bomb.png", "dst": f"{tmp_path}/b.png", "width": 50})
