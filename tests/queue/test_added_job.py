"""The job that an add returns."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from sandboxq.broker.commands.add import PLAIN
from sandboxq.queue.job import QueuedJob, job_from_add
from sandboxq.queue.queue import Queue


def test_a_job_added_without_options_is_like_any_other() -> None:
    """It is made in few steps: what it leaves out has its default when it is asked for."""
    queue = Queue("q", url="redis://nowhere")
    made = job_from_add(queue, "1", name="n", data={"a": 1}, options=PLAIN, now_ms=5)
    whole = QueuedJob(
        id="1", name="n", data={"a": 1}, opts=PLAIN, queue_name="q", timestamp_ms=5, queue=queue
    )
    assert copy.copy(made) == made == whole
    assert repr(made) == repr(whole)
    assert {each.name: getattr(made, each.name) for each in fields(whole)} == {
        each.name: getattr(whole, each.name) for each in fields(whole)
    }
    assert made.extra is made.extra
    assert replace(made, name="other").name == "other"
    with pytest.raises(AttributeError, match="nothing"):
        _ = made.nothing  # type: ignore[attr-defined]  # on purpose
    with pytest.raises(FrozenInstanceError):
        made.id = "2"  # type: ignore[misc]  # on purpose
