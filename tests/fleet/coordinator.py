"""One `sandboxq run` of the fleet, as a process of its own, with what it logs and its probes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from tests.conftest import wait_until

PROCESSOR = Path(__file__).with_name("processor.py")
_LISTENS = re.compile(r"http://127\.0\.0\.1:(\d+) ")
# A probe of Kubernetes gives up after a second; on a machine that tests share, later.
PROBE_SECONDS = 10.0


class Coordinator:
    """Runs until it is told to stop."""

    def __init__(self, url: str, queue: str, log: Path, *options: str) -> None:
        """Start it."""
        self._log_path = log
        self._log: IO[bytes] = log.open("wb")
        command = [sys.executable, "-m", "sandboxq", "run", str(PROCESSOR), "--queue", queue]
        self.process = subprocess.Popen(
            [*command, "--url", url, "--http", "0", *options], stderr=self._log
        )
        self.is_told_to_stop = False
        self.port = 0

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log_path.read_text()

    def is_ready(self) -> bool:
        """Ask /readyz. Raises: AssertionError when it has ended."""
        assert self.process.poll() is None, self.log
        found = _LISTENS.search(self.log)
        if found is not None:
            self.port = int(found[1])
        return bool(self.port) and self.probe("/readyz") == 200

    def wait_until_ready(self) -> None:
        """Return when it takes jobs."""
        wait_until(self.is_ready, timeout=120)

    def probe(self, path: str) -> int | None:
        """Return the status of a path; None when nobody listens (any more)."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}{path}", timeout=PROBE_SECONDS
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except (OSError, ValueError):
            return None

    def stop(self) -> None:
        """Send SIGTERM, as systemd and Kubernetes do."""
        self.is_told_to_stop = True
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait for its end. Raises: AssertionError unless its exit code is 0."""
        code = self.process.wait(120)
        assert code == 0, f"exit code {code}\n{self.log}"

    def close(self) -> None:
        """Kill it if it runs still."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()
