"""Fixtures of the queue tests: a queue on a real server, and a plain client beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.queue.bench import Bench

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def bench(server_url: str, queue_name: str) -> Iterator[Bench]:
    """Yield an empty queue and the tools to look at it from outside."""
    client: Any = redis.Redis.from_url(server_url, decode_responses=True)
    with client:
        yield Bench(server_url, queue_name, client)
