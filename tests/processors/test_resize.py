"""The ready-made resize processor, on pictures such as cameras and users make them."""

from __future__ import annotations

import io
import os
import stat
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, ImageOps, PngImagePlugin

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


# ── what cameras, encoders and strangers write ──────────────────────────────


def with_app1(path: Path, payload: bytes) -> None:
    """Write a JPEG of 200 × 100 pixels with this EXIF segment."""
    raw = io.BytesIO()
    photograph(200, 100).save(raw, "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload
    path.write_bytes(raw.getvalue()[:2] + segment + raw.getvalue()[2:])


def one_tag(kind: int, count: int, value: bytes) -> bytes:
    """Return an EXIF segment whose one entry is the orientation."""
    entry = struct.pack(">HHI", ORIENTATION, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + bytes(4)


@pytest.mark.parametrize(
    ("payload", "is_turned"),
    [
        (b"Exif\0\0", False),
        (b"Exif\0\0Exif\0\0II*\0\x08\0\0\0\0\0", False),
        (b"Exif\0\0http://ns.adobe.com/", False),
        (one_tag(3, 1, b"\0\x06")[:-6], False),
        (one_tag(3, 1, b"\0\x06"), True),
        (one_tag(3, 2, b"\0\x06\0\x06"), True),
        (one_tag(2, 2, b"6"), True),
        (one_tag(7, 1, b"\x06"), True),
        (one_tag(4, 1, b"\0\0\0\x06"), True),
        (one_tag(3, 1, b"\0\x63"), False),
        (one_tag(3, 1, b"\0\0"), False),
        (one_tag(2, 4, b"up"), False),
        (one_tag(5, 1, b"\0\0\0\x08"), False),
        (one_tag(12, 1, b"\xff\xff\xff\xff"), False),
        (one_tag(11, 1, b"\x7f\xc0\0\0"), False),
    ],
)
def test_an_orientation_of_any_type(
    tmp_path: Path,
    run: Run,
    payload: bytes,
    is_turned: bool,  # noqa: FBT001 - a case
) -> None:
    """Two numbers, text, bytes, not a number, or cut off: a picture comes out, upright if told."""
    with_app1(tmp_path / "a.jpg", payload)

    run("resize", {"src": f"{tmp_path}/a.jpg", "dst": f"{tmp_path}/b.jpg", "width": 50})

    with Image.open(tmp_path / "b.jpg") as image:
        assert image.size[0] == 50
        if is_turned is False:
            assert image.size[1] == 25
        elif payload != one_tag(3, 1, b"\0\x06")[:-6]:
            assert image.size[1] == 100


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png", ".webp"])
def test_every_orientation_of_every_format(
    tmp_path: Path, run: Run, orientation: int, suffix: str
) -> None:
    """As Pillow itself turns them; of a TIFF it does so while reading."""
    picture = Image.new("RGB", (40, 20), "black")
    picture.paste("white", (0, 0, 20, 10))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options: dict[str, Any] = {"exif": exif}
    if suffix == ".webp":
        options["lossless"] = True
    picture.save(tmp_path / f"a{suffix}", **options)
    with Image.open(tmp_path / f"a{suffix}") as image:
        upright = (image if suffix == ".tif" else ImageOps.exif_transpose(image)).convert("L")
    width = upright.width

    run("resize", {"src": f"{tmp_path}/a{suffix}", "dst": f"{tmp_path}/b.png", "width": width})

    with Image.open(tmp_path / "b.png") as image:
        assert image.size == upright.size
        found = np.asarray(image.convert("L"), dtype=float)
    assert np.abs(found - np.asarray(upright, dtype=float)).mean() < 8


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "I;16"])
def test_a_declared_colour_is_transparent(tmp_path: Path, run: Run, mode: str, suffix: str) -> None:
    """Whatever the mode; at the edges nothing of it is mixed into what is there."""
    background: Any = {"RGB": (255, 0, 255), "L": 0, "P": 1, "1": 0, "I;16": 0}[mode]
    middle: Any = {"RGB": (0, 128, 0), "L": 200, "P": 2, "1": 1, "I;16": 51_200}[mode]
    if mode == "I;16":
        pixels = np.full((100, 100), background, np.uint16)
        pixels[25:75, 25:75] = middle
        picture = Image.fromarray(pixels)
    else:
        picture = Image.new(mode, (100, 100), background)
        if mode == "P":
            picture.putpalette([0, 0, 0, 255, 0, 255, 0, 128, 0])
        picture.paste(middle, (25, 25, 75, 75))
    picture.save(tmp_path / "a.png", transparency=background)

    run("resize", {"src": f"{tmp_path}/a.png", "dst": f"{tmp_path}/b{suffix}", "width": 64})

    with Image.open(tmp_path / f"b{suffix}") as image:
        found = image.convert("RGBA")
    corner, centre, edge = (np.array(found.getpixel(at)) for at in [(2, 2), (32, 32), (15, 32)])
    wanted = {"RGB": (0, 128, 0), "P": (0, 128, 0), "1": (255,) * 3}.get(mode, (200,) * 3)
    assert np.abs(centre[:3] - np.array(wanted)).max() < 12
    if suffix == ".jpg":
        assert corner[:3].min() > 240
        assert edge[1] > 100
    else:
        assert (corner[3], centre[3]) == (0, 255)
        assert edge[3] < 20 or np.abs(edge[:3] - np.array(wanted)).max() < 40


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><owner>XMPSECRET</owner></x:xmpmeta>'


@pytest.mark.parametrize("source", ["a.jpg", "a.png", "a.webp", "a.tif", "a.gif"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".gif"])
def test_nothing_private_is_copied(tmp_path: Path, run: Run, source: str, suffix: str) -> None:
    """No comment, no XMP, no text, no description, whatever the formats."""
    exif = Image.Exif()
    exif[0x010E] = "EXIFSECRET"
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", "PNGSECRET")
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    options: dict[str, dict[str, Any]] = {
        "a.jpg": {"exif": exif, "xmp": XMP, "comment": b"COMMENTSECRET"},
        "a.png": {"exif": exif, "pnginfo": texts},
        "a.webp": {"exif": exif, "xmp": XMP},
        "a.tif": {"exif": exif, "description": "TIFFSECRET"},
        "a.gif": {"comment": b"GIFSECRET"},
    }
    photograph(200, 100).save(tmp_path / source, **options[source])
    assert b"SECRET" in (tmp_path / source).read_bytes()

    run("resize", {"src": f"{tmp_path}/{source}", "dst": f"{tmp_path}/b{suffix}", "width": 50})

    assert b"SECRET" not in (tmp_path / f"b{suffix}").read_bytes()


def test_metadata_is_copied_when_it_is_asked_for(tmp_path: Path, run: Run) -> None:
    """But for the orientation, which was applied."""
    exif = Image.Exif()
    exif[MAKER] = "maker"
    exif[ORIENTATION] = 6
    photograph(200, 100).save(tmp_path / "a.jpg", exif=exif, comment=b"a comment", xmp=XMP)
    data = {"src": f"{tmp_path}/a.jpg", "dst": f"{tmp_path}/b.jpg", "width": 50}

    run("resize", {**data, "metadata": True})

    with Image.open(tmp_path / "b.jpg") as image:
        assert image.size == (50, 100)
        assert dict(image.getexif()) == {MAKER: "maker"}
        assert image.info["comment"] == b"a comment"
        assert b"XMPSECRET" in image.info["xmp"]


@pytest.mark.parametrize(
    ("dtype", "most"), [("f4", 1), ("f4", 255), ("f4", 65535), ("i4", 255), ("i4", 65535)]
)
def test_numbers_of_any_scale_are_a_picture(
    tmp_path: Path, run: Run, dtype: str, most: int
) -> None:
    """From black to white, not all black or all white."""
    ramp = np.linspace(0, most, 200)[None, :].repeat(100, axis=0).astype(dtype)
    Image.fromarray(ramp).save(tmp_path / "a.tif")

    run("resize", {"src": f"{tmp_path}/a.tif", "dst": f"{tmp_path}/b.png", "width": 100})

    with Image.open(tmp_path / "b.png") as image:
        row = np.asarray(image.convert("L"))[25]
    left, middle, right = (int(row[x]) for x in (1, 50, 98))
    assert left < 10
    assert middle == pytest.approx(128, abs=4)
    assert right > 245


@pytest.mark.parametrize("values", [[-5.0, 1.0], [0.0, 1e9], [0.0, float("inf")]])
def test_measurements_are_refused(tmp_path: Path, run: Run, values: list[float]) -> None:
    """Temperatures are no brightness; who knows their scale says it."""
    Image.fromarray(np.array([values] * 2, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"data\.src: its values go from"):
        run("resize", {"src": f"{tmp_path}/a.tif", "dst": f"{tmp_path}/b.png", "width": 100})


def test_lab_and_inks_become_colours(tmp_path: Path, run: Run) -> None:
    """Without a profile that describes something else."""
    srgb, profile = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    to_lab = ImageCms.buildTransform(srgb, profile, "RGB", "LAB")
    lab = ImageCms.applyTransform(Image.new("RGB", (40, 20), (200, 40, 40)), to_lab)
    assert lab is not None
    lab.save(tmp_path / "a.tif")
    run("resize", {"src": f"{tmp_path}/a.tif", "dst": f"{tmp_path}/b.png", "width": 20})
    with Image.open(tmp_path / "b.png") as image:
        assert np.abs(np.array(image.getpixel((10, 5))) - np.array([200, 40, 40])).max() < 8


@pytest.mark.parametrize(
    ("size", "width", "suffix"),
    [((2, 3000), 320, ".jpg"), ((1, 60_000), 320, ".png"), ((100, 100), 19_000, ".png")],
)
def test_a_result_has_bounds(
    tmp_path: Path, run: Run, size: tuple[int, int], width: int, suffix: str
) -> None:
    """Of sides and of pixels; the error says what the width would have made."""
    Image.new("L", size).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=rf"data\.width: {width} makes {width} × \d+ pixels"):
        run("resize", {"src": f"{tmp_path}/a.png", "dst": f"{tmp_path}/b{suffix}", "width": width})


def test_a_format_s_own_bound_is_told(tmp_path: Path, run: Run) -> None:
    """WebP has no room for what a PNG may have."""
    Image.new("L", (100, 1)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"data\.width.*WEBP picture may have 16383"):
        run("resize", {"src": f"{tmp_path}/a.png", "dst": f"{tmp_path}/b.webp", "width": 17_000})


def test_large_photographs_are_read_without_a_warning(tmp_path: Path, run: Run) -> None:
    """Up to the bound, which is said where it is passed."""
    Image.new("1", (13_000, 13_000)).save(tmp_path / "a.png")
    run("resize", {"src": f"{tmp_path}/a.png", "dst": f"{tmp_path}/b.png", "width": 64})
