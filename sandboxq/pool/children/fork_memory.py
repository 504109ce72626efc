"""Memory of the zygote, set in order before the first fork.

A page is copied when a child first writes to it. What a child makes and frees is to lie in few
pages, and what was there before is not to be collected by it.
"""

from __future__ import annotations

import gc
import sysconfig

# glibc gives large blocks back to the kernel, to fault them in again for the next job, until it has
# seen one of that size come and go (mallopt(3), M_MMAP_THRESHOLD). Freed once here, a block like
# this, whose pages nobody touches, lets children keep up to twice as much of what jobs have freed.
_FAMILIAR_SIZE = 16 << 20
# CPython keeps small objects in pools, each for one size (Objects/obmalloc.c, up to 3.12 on every
# build): where pools begin, behind what, and which sizes there are.
_POOL, _POOL_HEADER = 16 << 10, 48
_SIZES = range(48, 513, 16)
_OF_BYTES = bytes.__basicsize__
# So many in a row, from the beginning of a pool on, and it is a new one.
_ROW = 5
_MOST = 5000  # of one size: with other allocators no row is ever found, and nothing is kept

_in_gaps: list[bytes] = []


def settle() -> None:
    """Collect garbage, fill gaps, and leave all there is alone from now on."""
    gc.collect()
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):  # that build has another allocator
        for size in _SIZES:
            _fill_gaps(size)
    bytearray(_FAMILIAR_SIZE)  # makes glibc sort what was freed, too
    gc.disable()
    gc.freeze()


def _fill_gaps(size: int) -> None:
    """Take the room in pools that are half full: what children make comes from a new one then.

    That is one page for many objects, where it would be two for each pool. Some 300 KB in all.
    """
    before = len(_in_gaps)
    row = last = 0
    for _ in range(_MOST):
        block = bytes(size - _OF_BYTES)
        _in_gaps.append(block)
        at = id(block)
        is_next = row and at == last + size
        row = row + 1 if is_next else at % _POOL == _POOL_HEADER
        last = at
        if row == _ROW:
            return
    del _in_gaps[before:]
