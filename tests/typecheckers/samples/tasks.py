"""Typed tasks, as type checkers see them. Lines with `# wrong` must be refused."""

from dataclasses import dataclass
from typing import assert_type

from sandboxq import AsyncTaskJob, FlowNode, Job, Queue, Repeat, TaskJob, current_job, task


@dataclass
class Size:
    width: int
    height: int


@task(queue="images", timeout=30, attempts=3)
def resize(path: str, *, width: int, height: int | None = None) -> Size:
    assert_type(current_job(), Job | None)
    return Size(width, height or width)


@task(queue="mails")
async def send(to: str, body: str = "") -> bool:
    return bool(to and body)


assert_type(resize.enqueue("a.jpg", width=320), TaskJob[Size])
assert_type(resize.enqueue("a.jpg", width=320).result(timeout=5), Size)
assert_type(resize.enqueue(path="a.jpg", width=320).id, str)
assert_type(resize.using(delay=5, priority=1).enqueue("a.jpg", width=1).result(), Size)
assert_type(resize("a.jpg", width=320), Size)
assert_type(resize.call("a.jpg", width=320), Size)
assert_type(send.enqueue("me").result(), bool)
assert_type(
    resize.enqueue_many(resize.data(each, width=320) for each in ("a.jpg", "b.jpg")),
    list[TaskJob[Size]],
)
assert_type(resize.node("a.jpg", width=320), FlowNode)


async def asynchronous() -> None:
    assert_type(await resize.aenqueue("a.jpg", width=320), AsyncTaskJob[Size])
    job = await send.using(attempts=2).aenqueue("me", body="hello")
    assert_type(await job.result(), bool)
    assert_type(await send("me"), bool)
    assert_type(await send.call("me"), bool)
    await Queue("mails").upsert_scheduler("daily", Repeat(cron="0 3 * * *"), options=send.options)
    many = await send.using(attempts=2).aenqueue_many([send.data("me"), {"to": "you"}])
    assert_type(many, list[AsyncTaskJob[bool]])
    await send.aenqueue_many((send.data(each), {"job_id": each}) for each in ("me", "you"))
    await send.aenqueue_many([(send.data("me"), {"jobid": "me"})])  # wrong
    await send.aenqueue_many([send.data(17)])  # wrong
    await send.aenqueue_many(["me"])  # wrong
    await send.aenqueue("me", bodies="hello")  # wrong
    await send(17)  # wrong


resize.enqueue()  # wrong
resize.enqueue("a.jpg")  # wrong
resize.node("a.jpg")  # wrong
resize.enqueue("a.jpg", width="320")  # wrong
resize.enqueue_many(resize.data("a.jpg", width=each) for each in ("1", "2"))  # wrong
resize.enqueue_many(["a.jpg"])  # wrong
resize.enqueue_many(resize.data("a.jpg", width=320))  # wrong
resize.enqueue("a.jpg", 320)  # wrong
resize.enqueue("a.jpg", width=320, depth=3)  # wrong
resize.using(dealy=5).enqueue("a.jpg", width=320)  # wrong
resize.using(delay=5).enqueue("a.jpg", width=None)  # wrong
resize("a.jpg", width="320")  # wrong
resize.call(b"a.jpg", width=320)  # wrong
width: str = resize.enqueue("a.jpg", width=320).result().width  # wrong
send.enqueue(None)  # wrong


@task(queue=17)  # wrong
def third() -> None: ...


@task(queue="images", atempts=3)  # wrong
def fourth() -> None: ...
