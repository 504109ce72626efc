"""Sentinels move the master under a producer and a worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sandboxq.broker.connect.broker import Broker
from sandboxq.errors import BrokerUnavailable
from tests.cluster.drain import Drain
from tests.conftest import run_async, wait_until
from tests.sentinel.servers import DATA_PASSWORD, SENTINEL_PASSWORD, SentinelSet

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

# Redis replicates behind the acknowledgement: what it has not passed on dies with the master.
MOST_LOST = 50
# Seconds: the servers notice after 1.5, elect, and are found with a back-off of up to 2.
LONGEST_PAUSE = 12.0


def test_the_master_dies_and_comes_back_as_a_replica(tmp_path: Path, queue_name: str) -> None:
    """The worker finds the new master, lives, and never writes to the old one again."""
    with SentinelSet(tmp_path) as sentinels:
        drain = Drain(sentinels.url, queue_name)

        async def main() -> None:
            async with drain.going_on():
                await drain.until_added(300)
                old = sentinels.master()
                await asyncio.to_thread(old.kill)
                await drain.until_added(300)
                await asyncio.to_thread(old.start)
                await drain.until_added(300)
                # The Sentinel that is asked may hear of it later than the producer asked another.
                await asyncio.to_thread(wait_until, lambda: sentinels.master() is not old)

        run_async(main())
    lost = set(drain.added) - drain.ended.keys()
    pause = f"nothing taken for {drain.longest_pause:.1f} s"
    print(len(drain.added), "added,", len(lost), "lost by replication,", pause)  # noqa: T201 - figures for whoever runs this
    assert set(drain.ended.values()) == {"completed"}
    assert len(lost) <= MOST_LOST
    assert drain.absences == (1, 1)
    assert drain.longest_pause < LONGEST_PAUSE


def test_what_the_sentinels_do_not_know_is_said_without_passwords(tmp_path: Path) -> None:
    """A wrong master's name is the usual slip; the error goes to a log."""
    with SentinelSet(tmp_path) as sentinels:
        with pytest.raises(BrokerUnavailable, match="No such master") as caught:
            run_async(Broker.connect(sentinels.url.replace("mymaster", "other")))
        assert SENTINEL_PASSWORD not in str(caught.value)
        assert DATA_PASSWORD not in str(caught.value)
