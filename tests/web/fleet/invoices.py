"""Sends invoices; one customer in a few has no address, and the bank is slow at times."""

import random
import time
from typing import Any


class CustomerNotFound(Exception):
    """No such customer."""


def process(job: Any) -> dict[str, Any] | int | float:
    """Send one invoice."""
    print(f"invoice {job.data['number']} for customer {job.data['customer']}")
    time.sleep(random.uniform(0.02, 0.4))
    if job.data["customer"] % 9 == 0:
        message = f"customer {job.data['customer']} has no address on file"
        raise CustomerNotFound(message)
    if job.data["customer"] % 13 == 0:
        return charge(job.data["total"], job.data["currency"])
    return {"sent": True, "pages": 2}


def charge(total: float, currency: str) -> float:
    """Charge a customer whose bank knows no such currency."""
    rates = {"EUR": 1.0, "CHF": 0.95}
    return total * rates[currency]
