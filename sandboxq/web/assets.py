"""The files of the page: scripts, styles, icons. Browsers keep them: URLs have a version."""

from __future__ import annotations

import functools
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Scope

FOLDER = Path(str(files("sandboxq.web") / "static"))
# A version's files never change; another version has other URLs.
_KEEP = "public, max-age=31536000, immutable"
_ASK = "no-cache"


@functools.cache
def version() -> str:
    """Return what changes when a file does."""
    digest = hashlib.sha256()
    for path in sorted(each for each in FOLDER.rglob("*") if each.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class Assets(StaticFiles):
    """Serves the files."""

    def __init__(self) -> None:
        """Serve those of the package."""
        super().__init__(directory=FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, to be kept where the URL has the version of now."""
        answer = await super().get_response(path, scope)
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("v")
        answer.headers["Cache-Control"] = _KEEP if asked == [version()] else _ASK
        return answer
