"""A processor whose import switches the GIL on, on a build without one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING

import pytest

from sandboxq.pool.kinds import this_interpreter
from tests.pool.caller import processor_file

if TYPE_CHECKING:
    from pathlib import Path

# A module of before free threading: it does not say that it can do without the GIL.
_MODULE = """
#include <Python.h>
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "oldmod", 0, -1, 0};
PyMODINIT_FUNC PyInit_oldmod(void) { return PyModule_Create(&definition); }
"""
# A program of its own: nothing switches the GIL off again.
_PROGRAM = """
import asyncio, sys
from tests.pool.caller import open_pool
from sandboxq.pool.kinds import Kind

async def main():
    async with open_pool(sys.argv[1], kind=Kind.THREAD) as caller:
        print(await caller.value({}), caller.pool.notes)

asyncio.run(main())
"""


@pytest.mark.skipif(this_interpreter().has_gil, reason="needs an interpreter without the GIL")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_the_module_that_switched_the_gil_on_is_named(tmp_path: Path) -> None:
    """Threads that take turns in silence would only be slow."""
    source = tmp_path / "oldmod.c"
    source.write_text(_MODULE)
    include = f"-I{sysconfig.get_paths()['include']}"
    target = str(source.with_suffix(".so"))
    subprocess.run(["gcc", "-shared", "-fPIC", include, str(source), "-o", target], check=True)
    path = processor_file(tmp_path, "import oldmod\ndef process(job): return 1")
    command = [sys.executable, "-c", _PROGRAM, str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "the import of oldmod did it" in shown.stdout
