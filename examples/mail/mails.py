"""Sends mails: tries again what may work later, and gives up at once on what never will."""

from __future__ import annotations

import contextlib
import os
import smtplib
from email.message import EmailMessage

from sandboxq import Backoff, UnrecoverableError, current_job, task

HOST, _, PORT = os.environ.get("SMTP", "127.0.0.1:8025").partition(":")
# A server that says "later" means minutes; the README sets a second.
RETRY = Backoff.exponential(float(os.environ.get("MAIL_RETRY_SECONDS", "60")), jitter=0.2)
SENDER = "shop@example.org"
# Below: try later. From here on: never (RFC 5321, 4.2.1).
NEVER = 500


@task(queue="mails", attempts=8, backoff=RETRY, timeout=60)
def send(to: str, subject: str, text: str) -> str:
    """Hand a mail to the server; return its Message-ID."""
    job = current_job()
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, to, subject
    # The same in each attempt: a mail whose "250" was lost is known when it comes again.
    message["Message-ID"] = f"<{job.id if job else 'no-job'}@example.org>"
    message.set_content(text)
    deliver(message)
    return str(message["Message-ID"])


def deliver(message: EmailMessage) -> None:
    """Hand a mail to the server. Raises: UnrecoverableError when it will never take it."""
    server = smtplib.SMTP(HOST, int(PORT), timeout=20)
    try:
        server.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        raise failure(*error.recipients[message["To"]]) from None
    except smtplib.SMTPResponseException as error:
        raise failure(error.smtp_code, error.smtp_error) from None
    finally:
        # Whatever the server says now, it has the mail: an error here would have it sent again,
        # as one in `with smtplib.SMTP(…)` does.
        with contextlib.suppress(OSError):
            server.quit()


def failure(code: int, said: bytes | str) -> Exception:
    """Return the error for an answer of the server."""
    text = f"{code} {said.decode('utf-8', 'replace') if isinstance(said, bytes) else said}"
    return UnrecoverableError(text) if code >= NEVER else RuntimeError(text)
