"""Random numbers of its own for each child: all of them were forked from one state.

zygote: note_generators ─► (fork) ─► child: reseed, in place, what the import has made

A generator that the processor's module keeps, wherever it keeps it, would give every child the same
numbers. ``secrets`` and ``uuid`` ask the kernel, and need nothing.
"""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from typing import Any

_noted: list[Any] = []


def note_generators() -> None:
    """Find the generators that there are now: in modules, containers, defaults of functions."""
    random, numpy_random = loaded("random", "Random"), loaded("numpy.random", "BitGenerator")
    kinds: list[type] = [random.Random] if random is not None else []
    if numpy_random is not None:
        kinds += [numpy_random.BitGenerator, numpy_random.RandomState]
    random_of_kernel = getattr(random, "SystemRandom", None)  # has no state of its own
    wanted = tuple(kinds)
    if not kinds:
        return  # what the processor did not import, it has none of
    # By their types: isinstance() asks objects too, and lazy ones load what they stand for.
    found = [each for each in gc.get_objects() if issubclass(type(each), wanted)]
    _noted[:] = [each for each in found if type(each) is not random_of_kernel]


def reseed() -> None:
    """Seed what was noted from the kernel's numbers, and the generator that numpy has for all."""
    numpy_random = loaded("numpy.random", "BitGenerator")
    if numpy_random is not None:
        numpy_random.seed()  # the one of the standard library reseeds itself after a fork
    for each in _noted:
        with suppress(Exception):  # a class of the user's own
            _reseed(each, numpy_random)


def loaded(name: str, attribute: str) -> Any:
    """Return an imported module; None where a stand-in has its name, or the processor."""
    return sys.modules[name] if hasattr(sys.modules.get(name), attribute) else None


def _reseed(each: Any, numpy_random: Any) -> None:
    if numpy_random is not None and isinstance(each, numpy_random.BitGenerator):
        each.state = type(each)().state
    else:
        each.seed()
