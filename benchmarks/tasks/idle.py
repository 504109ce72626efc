"""Have numpy and Pillow imported, and do a little with both: what a child then holds of its own."""

from __future__ import annotations

import numpy as np
from PIL import Image


def process(job: object) -> list[int]:
    """Shrink a small picture."""
    del job
    picture = Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8))
    return list(picture.resize((16, 16)).size)
