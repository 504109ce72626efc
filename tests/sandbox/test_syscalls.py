"""A wrong number in the table would forbid the wrong thing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandboxq.sandbox.syscalls import NEVER, NUMBERS, OF_ONESELF

# aarch64 uses the kernel's generic table, which the headers of any machine have.
_HEADERS = {
    "x86_64": [
        Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        Path("/usr/include/asm/unistd_64.h"),
    ],
    "aarch64": [
        Path("/usr/include/asm-generic/unistd.h"),
        Path("/usr/include/aarch64-linux-gnu/asm/unistd_64.h"),
    ],
}
_DEFINITION = re.compile(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", re.MULTILINE)


@pytest.mark.parametrize("machine", list(NUMBERS))
def test_numbers_are_those_of_the_kernel_s_headers(machine: str) -> None:
    """Compared with what the C library here is built on; what is newer than it is passed over."""
    header = next((path for path in _HEADERS[machine] if path.exists()), None)
    if header is None:
        pytest.skip("needs the kernel's headers (linux-libc-dev)")
    real = {name: int(number) for name, number in _DEFINITION.findall(header.read_text())}
    newest = max(real.values())
    ours = {name: number for name, number in NUMBERS[machine].items() if number <= newest}
    assert ours == {name: real.get(name) for name in ours}
    assert len(ours) > 80
    missing = {name for name in (*NEVER, *OF_ONESELF) if name in real} - set(NUMBERS[machine])
    assert not missing
