"""A model that ``setup`` loads: in each child."""

from __future__ import annotations

from typing import Any

import numpy as np

_loaded: dict[str, Any] = {}


def setup() -> None:
    """Load the model."""
    _loaded["model"] = np.ones(25_000_000)


def process(_job: Any) -> float:
    """Read all of the model."""
    return float(_loaded["model"].sum())
