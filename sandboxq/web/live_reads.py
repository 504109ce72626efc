"""The same as the live topics, once: for programs, and for pages that cannot have a stream.

Who asks again within some seconds shares what is looked at with all others.
"""

from __future__ import annotations

from typing import Any

from sandboxq.web.context import Dashboard
from sandboxq.web.live import live_of
from sandboxq.web.live_routes import job_subject
from sandboxq.web.operations import read
from sandboxq.web.stream_topic import StreamTopic
from sandboxq.web.topics import WorkersTopic


@read("/workers")
async def read_workers(dashboard: Dashboard) -> dict[str, Any]:
    """Hosts, their workers, children and running jobs, live; and what each queue has free."""
    return (await live_of(dashboard).topic("workers", WorkersTopic)).state()


@read("/stream")
async def read_stream(dashboard: Dashboard, *, place: int = 0) -> dict[str, Any]:
    """Tell what each child ran in the last hour, as far as it was heard, or after a place."""
    topic = await live_of(dashboard).topic("stream", StreamTopic)
    ((event, state),), newest = topic.news(place)
    return {"event": event, "place": newest, **state}


@read("/queues/{queue}/jobs/{job_id}/live")
async def read_live_job(dashboard: Dashboard, queue: str, job_id: str) -> dict[str, Any]:
    """One job: its stack, what it uses and prints; after its end the last stack that is known."""
    key, make = job_subject(dashboard, queue, job_id)
    return (await live_of(dashboard).topic(key, make)).state()
