"""Places orders: `python place.py books.db tea 500 tea 90000`; prints what became of each."""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING, Any

from books import Books

from sandboxq import Backoff, FlowProducer

if TYPE_CHECKING:
    from sandboxq import Flow, FlowNode, SyncJob


def place(flows: Any, books: str, product: str, cents: int) -> Flow[SyncJob]:
    """Add an order: its steps at the same time, and what follows when both have ended."""
    data = {"books": books, "order": uuid.uuid4().hex, "product": product, "cents": cents}
    steps: list[FlowNode] = [
        {
            "name": name,
            "queue": "steps",
            "data": data,
            "opts": {"attempts": 3, "backoff": Backoff.exponential(0.1)},
            # A step that failed for good keeps the order from nothing: it looks at what failed.
            "on_failure": "ignore",
        }
        for name in ("reserve", "charge")
    ]
    flow: Flow[SyncJob] = flows.add(name="order", queue="orders", data=data, children=steps)
    return flow


def main() -> None:
    """Place orders and wait for them."""
    books, *orders = sys.argv[1:]
    Books(books).change(("INSERT OR IGNORE INTO stock VALUES (?, ?)", ("tea", 2)))
    with FlowProducer.sync() as flows:
        placed = [
            place(flows, books, product, int(cents))
            for product, cents in zip(orders[::2], orders[1::2], strict=True)
        ]
        for flow in placed:
            print(flow.job.result(timeout=60))


if __name__ == "__main__":
    main()
