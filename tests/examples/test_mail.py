"""examples/mail: "later" is tried again, "never" is not, and what was taken is not sent again."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxq import Queue
from tests.conftest import wait_until
from tests.examples.programs import embedded_url, finished, program, python

pytest.importorskip("aiosmtpd")

EXAMPLE = Path(__file__).parents[2] / "examples" / "mail"
ORDER = EXAMPLE / "order.py"
ADDRESSES = [f"{name}@example.org" for name in ("ann", "busy", "nobody", "rude")]
PAUSE = 0.1
# Twice "later": one pause, and one of twice its length, each a fifth shorter at most.
LEAST_MS = 3 * PAUSE * 0.8 * 1000
HEARD = """\
ann@example.org: 250 OK
ann@example.org: Welcome <welcome-ann@example.org>
busy@example.org: 250 OK
busy@example.org: 451 busy, try again later
busy@example.org: 451 busy, try again later
busy@example.org: Welcome <welcome-busy@example.org>
nobody@example.org: 550 no such mailbox
rude@example.org: 250 OK
rude@example.org: Welcome <welcome-rude@example.org>
"""


@pytest.mark.timeout(180)
def test_each_mail_is_sent_once_or_never(tmp_path: Path) -> None:
    """What the server has heard is what was ordered, whatever it answered."""
    heard = tmp_path / "heard"
    with python(tmp_path, EXAMPLE / "server.py", "0", output=heard):
        port = wait_until(lambda: heard.read_text().split())[1]
        variables = {"SMTP": f"127.0.0.1:{port}", "MAIL_RETRY_SECONDS": str(PAUSE)}
        worker = ("sandboxq", "run", str(EXAMPLE / "mails.py"), "--procs", "2")
        with program(tmp_path, *worker, variables=variables):
            said = finished(tmp_path, ORDER, *ADDRESSES, variables=variables)
            again = finished(tmp_path, ORDER, ADDRESSES[0], variables=variables)
            with Queue.sync("mails", embedded_url(tmp_path)) as queue:
                busy = queue.get_job("welcome-busy@example.org")

    assert said.splitlines() == [
        "ann@example.org: sent as <welcome-ann@example.org>",
        "busy@example.org: sent as <welcome-busy@example.org>",
        "nobody@example.org: not sent, 550 no such mailbox, tried 1 times",
        "rude@example.org: sent as <welcome-rude@example.org>",
    ]
    assert again == said.splitlines(keepends=True)[0]
    _, *lines = heard.read_text().splitlines(keepends=True)
    assert "".join(sorted(lines)) == HEARD
    assert busy is not None
    assert busy.attempts_made == 3
    assert (busy.finished_on_ms or 0) - busy.timestamp_ms > LEAST_MS
