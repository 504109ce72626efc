"""The processor of functions: ``python -m sandboxq run sandboxq.functions --queue Q``."""

from __future__ import annotations

import cloudpickle as _  # noqa: F401 - what is sent refers to it: imported once, for all children

from sandboxq.child.functions import process, setup

__all__ = ["process", "setup"]
