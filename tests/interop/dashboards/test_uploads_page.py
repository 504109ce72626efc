"""The page of examples/uploads in a browser: thumbnails appear, and what went wrong is said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.examples.programs import program, uvicorn

if TYPE_CHECKING:
    from tests.interop.node_driver import NodeDriver

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

EXAMPLE = Path(__file__).parents[3] / "examples" / "uploads"
SECONDS = 60


@pytest.mark.timeout(180)
@pytest.mark.interop
def test_a_picture_and_what_is_none(browser_driver: NodeDriver, tmp_path: Path) -> None:
    """By server-sent events: three thumbnails, or the reason why there are none."""
    from PIL import Image

    picture, text, large = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    Image.new("RGB", (640, 480), "orange").save(picture)
    text.write_text("no picture")
    large.write_bytes(b"x" * 21_000_000)

    def browse(command: str, **arguments: Any) -> Any:
        return browser_driver.ask(command, **arguments).result(SECONDS)

    worker = ("sandboxq", "run", str(EXAMPLE / "thumbnails.py"), "--procs", "1")
    with uvicorn(tmp_path, EXAMPLE) as url, program(tmp_path, *worker):
        browse("goto", url=url)
        browse("choose", selector="input", file=str(picture))
        browse("see", selector="img >> nth=2")
        assert browse("troubles") == []
        browse("choose", selector="input", file=str(text))
        browse("see", selector="text=cannot identify image file")
        browse("choose", selector="input", file=str(large))
        browse("see", selector="text=more than 20000000 bytes")
        browse("goto", url="about:blank")  # it would ask again and again
