"""examples/digits: pictures are read in chunks, by a model that each child has loaded once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples.programs import finished, program

pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
SAID = re.compile(r"(\d+) pictures in (\d+) chunks: (\S+)% right")
LOADED = re.compile(r"\[child (\d+)\] model loaded")


@pytest.mark.timeout(180)
def test_pictures_are_read(tmp_path: Path) -> None:
    """Of ten digits nine are right, so they are in order; two children load two models."""
    log = tmp_path / "log"
    worker = ("sandboxq", "run", str(EXAMPLE / "digits.py"), "--procs", "2")
    with program(tmp_path, *worker, output=log):
        said = finished(tmp_path, EXAMPLE / "read.py", "600", "50")

    found = SAID.match(said)
    assert found is not None, said
    assert found.group(1, 2) == ("600", "12")
    assert float(found[3]) > 80
    loaded = LOADED.findall(log.read_text())
    assert len(loaded) == len(set(loaded)) == 2, log.read_text()
