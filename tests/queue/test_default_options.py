"""Options that a queue gives to all jobs that do not say otherwise."""

from __future__ import annotations

import pytest

from sandboxq import Backoff, Queue, Repeat, UsageError
from tests.conftest import run_async


def test_defaults_hold_where_a_job_says_nothing(server_url: str, queue_name: str) -> None:
    """Also in bulk and for schedulers; what a job says goes first, None takes a default back."""

    async def main() -> None:
        defaults = {"attempts": 5, "backoff": Backoff.fixed(2), "delay": 60}
        async with Queue(queue_name, url=server_url, default_job_options=defaults) as queue:  # type: ignore[arg-type]
            plain = await queue.add("a", {})
            own = await queue.add("b", {}, attempts=2, delay=None)
            (bulk,) = await queue.add_bulk([("c", {})])
            scheduled = await queue.upsert_scheduler("s", Repeat(every=60))
            assert [job.opts.attempts for job in (plain, own, bulk, scheduled)] == [5, 2, 5, 5]
            assert [await job.state() for job in (plain, own, bulk)] == [
                "delayed",
                "waiting",
                "delayed",
            ]

    run_async(main())


def test_wrong_defaults_are_refused_at_once(queue_name: str) -> None:
    """Not with the first job, which may be days later."""
    with pytest.raises(UsageError, match="priority"):
        Queue(queue_name, default_job_options={"priority": -1})


def test_blocking_queues_have_them_too(server_url: str, queue_name: str) -> None:
    """The same call, without a loop."""
    with Queue.sync(queue_name, url=server_url, default_job_options={"priority": 3}) as queue:
        assert queue.add("a", {}).opts.priority == 3
