"""Who hears what: everything, or the classes that were asked for."""

from __future__ import annotations

from sandboxq.observe.telemetry import (
    Event,
    JobCompleted,
    JobEvent,
    JobProgressed,
    JobsClaimed,
    QueueDrained,
    Telemetry,
)

COMPLETED = JobCompleted("1", "name", b"{}", 0.5)
PROGRESSED = JobProgressed("1", b"40")
EVENTS = [JobsClaimed(3), PROGRESSED, COMPLETED, QueueDrained()]


def test_listeners_hear_what_they_asked_for() -> None:
    """Events of single jobs go to those alone who named them: they come by the thousand."""
    telemetry = Telemetry()
    heard: dict[str, list[Event]] = {"all": [], "job": [], "completed": [], "both": []}
    telemetry.subscribe(heard["all"].append)
    telemetry.subscribe(heard["job"].append, JobEvent)
    telemetry.subscribe(heard["completed"].append, JobCompleted)
    telemetry.subscribe(heard["both"].append, JobCompleted, QueueDrained)
    for event in EVENTS:
        telemetry.emit(event)
    assert heard == {
        "all": [JobsClaimed(3), QueueDrained()],
        "job": [PROGRESSED, COMPLETED],
        "completed": [COMPLETED],
        "both": [COMPLETED, QueueDrained()],
    }


def test_what_nobody_wants_need_not_be_made() -> None:
    """Asked at each job: the answer follows who subscribes later."""
    telemetry = Telemetry()
    telemetry.subscribe(lambda _: None)
    assert not telemetry.wants(JobCompleted)
    assert telemetry.wants(QueueDrained)
    telemetry.subscribe(lambda _: None, JobEvent)
    assert telemetry.wants(JobCompleted)


def test_a_listener_that_raises_disturbs_nobody() -> None:
    """Neither the worker nor the next listener."""
    telemetry = Telemetry()
    heard: list[Event] = []

    def broken(_event: Event) -> None:
        raise ValueError

    telemetry.subscribe(broken)
    telemetry.subscribe(heard.append)
    telemetry.emit(QueueDrained())
    assert heard == [QueueDrained()]
