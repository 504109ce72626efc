"""Where the ready-made processors are. They are files to run, never modules to import."""

from __future__ import annotations

from pathlib import Path

import sandboxq
from sandboxq.errors import ProcessorNotLoaded

_PACKAGE = Path(sandboxq.__file__).parent

# The wheel carries processors/ inside the package (pyproject.toml); a checkout has it beside it.
_FOLDERS = (_PACKAGE / "_processors", _PACKAGE.parent / "processors")


def ready_made_processor(name: str) -> Path:
    """Return the file of the ready-made processor of this name, such as ``resize``.

    Raises:
        ProcessorNotLoaded: the installation has no such file.

    """
    for folder in _FOLDERS:
        path = folder / f"{name}.py"
        if path.is_file():
            return path
    message = f"the ready-made processor {name!r} is not in this installation of sandboxq"
    raise ProcessorNotLoaded(message)
