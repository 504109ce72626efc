"""Pictures of digits, of 16 by 16 grey pixels: crooked, and with some dirt."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 16


def draw(digits: np.ndarray, seed: int) -> np.ndarray:
    """Return one picture for each digit, as rows of pixels from 0 to 255."""
    random = np.random.default_rng(seed)
    rows = [_draw_one(str(digit), random) for digit in digits]
    dirt = random.integers(0, 60, (len(rows), SIDE * SIDE), dtype=np.uint8)
    return np.maximum(np.array(rows, np.uint8).reshape(len(rows), -1), dirt)


def _draw_one(digit: str, random: np.random.Generator) -> np.ndarray:
    picture = Image.new("L", (SIDE, SIDE))
    x, y = SIDE / 2 + random.uniform(-1, 1, 2)
    font = ImageFont.load_default(random.uniform(13, 16))
    ImageDraw.Draw(picture).text((x, y), digit, 255, font, anchor="mm")
    return np.asarray(picture.rotate(random.uniform(-10, 10), Image.Resampling.BILINEAR))
