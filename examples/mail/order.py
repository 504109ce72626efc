"""Orders a welcome mail for each address, once: `python order.py ADDRESS…`; prints how it went."""

from __future__ import annotations

import sys

from mails import send

from sandboxq import JobFailed

if __name__ == "__main__":
    ordered = {
        # The id: ordered again, while the job is known, nothing is added.
        to: send.using(job_id=f"welcome-{to}").enqueue(to, "Welcome", "Good to see you.")
        for to in sys.argv[1:]
    }
    for to, job in ordered.items():
        try:
            print(f"{to}: sent as {job.result(timeout=120)}")
        except JobFailed as error:
            print(f"{to}: not sent, {error.reason}, tried {error.attempts_made} times")
