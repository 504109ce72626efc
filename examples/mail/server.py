"""A mail server that delivers nothing, for the example: `python server.py PORT`.

busy@…   is told "later" twice before it gets mail;
nobody@… is no address;
rude@…   gets its mail, but the server does not say goodbye.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope, Session

LATER = 2


class Mailboxes:
    """Answers by the name before the @; the methods are called by aiosmtpd."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self._asked: Counter[str] = Counter()
        self._rude: set[object] = set()

    async def handle_RCPT(
        self, _: SMTP, session: Session, envelope: Envelope, address: str, __: list[str]
    ) -> str:
        """Accept an address, or not."""
        name = address.partition("@")[0]
        self._asked[name] += 1
        if name == "nobody":
            answer = "550 no such mailbox"
        elif name == "busy" and self._asked[name] <= LATER:
            answer = "451 busy, try again later"
        else:
            answer = "250 OK"
            envelope.rcpt_tos.append(address)
            if name == "rude":
                self._rude.add(session.peer)
        print(f"{address}: {answer}", flush=True)
        return answer

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:
        """Take a mail."""
        mail = message_from_bytes(envelope.original_content or b"")
        print(f"{mail['To']}: {mail['Subject']} {mail['Message-ID']}", flush=True)
        return "250 taken"

    async def handle_QUIT(self, _: SMTP, session: Session, __: Envelope) -> str:
        """Say goodbye, or not."""
        return "421 too busy to say goodbye" if session.peer in self._rude else "221 bye"


async def main(port: int) -> None:
    """Serve until Ctrl-C."""
    boxes: Any = Mailboxes()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(boxes), "127.0.0.1", port)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1])))
