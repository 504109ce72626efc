"""A push gateway that prints what it gets, for the example: `python gateway.py PORT`."""

from __future__ import annotations

import contextlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Gateway(BaseHTTPRequestHandler):
    """Prints notifications."""

    def do_POST(self) -> None:
        """Take one."""
        notice = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print(f"{notice['to']}: {notice['text']}", flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing else."""


if __name__ == "__main__":
    with (
        contextlib.suppress(KeyboardInterrupt),
        ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Gateway) as server,
    ):
        print("port", server.server_address[1], flush=True)
        server.serve_forever()
