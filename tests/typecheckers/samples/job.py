"""What a processor's job offers, as type checkers see it. Lines with `# wrong` must be refused."""

from typing import Any, assert_type

from sandboxq import AddedJob, Job, JobQueue


def process(job: Job) -> dict[str, Any]:
    assert_type(job.id, str)
    assert_type(job.name, str)
    assert_type(job.data, Any)
    assert_type(job.opts, dict[str, Any])
    assert_type(job.parent, dict[str, Any] | None)
    assert_type(job.trace_context, dict[str, str] | None)
    assert_type(job.progress, Any)
    assert_type(job.token, str)
    assert_type(job.timestamp, int)
    assert_type(job.processed_on, int)
    assert_type(job.timestamp_ms, int)
    assert_type(job.processed_on_ms, int)
    assert_type(job.delay_ms, int)
    assert_type(job.options, dict[str, Any])
    assert_type(job.priority, int)
    assert_type(job.delay, int)
    assert_type(job.queue_name, str)
    assert_type(job.prefix, str)
    assert_type(job.queue_qualified_name, str)
    assert_type(job.scheduler_id, str | None)
    assert_type(job.deduplication_id, str | None)
    assert_type(job.failed_reason, str | None)
    assert_type(job.attempts_made, int)
    assert_type(job.attempts_started, int)
    assert_type(job.stalled_counter, int)
    assert_type(job.cancelled, bool)
    assert_type(job.binary("photo"), memoryview)
    assert_type(job.array("pixels"), Any)
    assert_type(job.with_parts(job.data), Any)
    job.update_progress(40)
    job.update_data({"step": 2})
    job.log("resized")
    assert_type(job.queue("next"), JobQueue)
    added: AddedJob = job.queue("next").add("resize", {"width": 320}, delay=5)
    job.queue("next").add_bulk([("resize", {}), ("resize", {}, {"priority": 1})])
    job.add("again", {}, priority=1)
    job.add_flow(name="album", queue="albums", children=[{"name": "photo", "queue": "photos"}])
    values: dict[str, Any] = job.children_values()
    job.ignored_children_failures()
    job.failed_children()
    job.dependencies_count()
    job.dependencies(count=10)
    return {"added": added.id, "values": values}


async def process_async(job: Job) -> None:
    values: dict[str, Any] = await job.children_values()
    added: AddedJob = await job.add("next", values)
    job.log(added.id)


def wrong(job: Job) -> None:
    job.updateProgress(40)  # wrong
    job.id = "17"  # wrong
    job.log()  # wrong
    job.remove()  # wrong
    width: int = job.name  # wrong
    print(width)
