"""What an editor with pyright's language server shows: real signatures and docstrings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pytest

pytest.importorskip("basedpyright")

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(300)

SERVER = "from basedpyright.langserver import main; main()"
BEGIN = 'from sandboxq import Queue\nqueue = Queue.sync("images")\n'


def test_an_editor_shows_a_blocking_method_as_it_is(tmp_path: Path) -> None:
    """With parameters, defaults, what it returns and the text; not as some wrapped function."""
    path = tmp_path / "sample.py"
    path.write_text(BEGIN + "queue.counts\nqueue.get_jobs\n")
    with LanguageServer(path) as server:
        counts, get_jobs = server.hover(2, len("queue.c")), server.hover(3, len("queue.g"))

    assert "def counts(states: str | Iterable[str] | None = None) -> dict[str, int]" in counts
    assert "Return how many jobs are in each state" in counts
    assert "ascending: bool = False" in get_jobs
    assert "-> list[SyncJob]" in get_jobs
    assert "Newest first, or oldest first" in get_jobs


class LanguageServer:
    """An editor's connection to pyright's language server, with one open file."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self._path = path
        self._asked = 0

    def __enter__(self) -> Self:
        """Start the server, and open the file."""
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER, "--stdio"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        folder = self._path.parent.as_uri()
        self._ask(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": folder,
                "workspaceFolders": [{"uri": folder, "name": "sample"}],
                "capabilities": {"workspace": {"configuration": True}},
            },
        )
        self._send({"method": "initialized", "params": {}})
        document = {"uri": self._path.as_uri(), "languageId": "python", "version": 1}
        document["text"] = self._path.read_text()
        self._send({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        return self

    def __exit__(self, *_: object) -> None:
        """End the server."""
        self._ask("shutdown", {})
        self._send({"method": "exit"})
        self._server.communicate()

    def hover(self, line: int, character: int) -> str:
        """Return what is shown for the name there."""
        place = {"line": line, "character": character}
        where = {"textDocument": {"uri": self._path.as_uri()}, "position": place}
        return str(self._ask("textDocument/hover", where)["contents"]["value"])

    def _ask(self, method: str, params: dict[str, Any]) -> Any:
        self._asked += 1
        self._send({"id": self._asked, "method": method, "params": params})
        while True:
            message = self._receive()
            if "method" not in message and message.get("id") == self._asked:
                return message["result"]
            if "id" in message and "method" in message:
                self._answer(message)

    def _answer(self, question: dict[str, Any]) -> None:
        result = None
        if question["method"] == "workspace/configuration":
            result = [{"pythonPath": sys.executable} for _ in question["params"]["items"]]
        self._send({"id": question["id"], "result": result})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._server.stdin is not None
        self._server.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._server.stdin.flush()

    def _receive(self) -> Any:
        assert self._server.stdout is not None
        length = 0
        while header := self._server.stdout.readline().strip():
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return json.loads(self._server.stdout.read(length))
