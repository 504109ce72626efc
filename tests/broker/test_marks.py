"""What was done when the reply is lost, and whose outcome counts when the locks are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.broker.commands.attempts import (
    MOST_SETTLED,
    Report,
    Settlement,
    report,
    reported,
    settle,
    settled,
)
from sandboxq.broker.commands.batches import BATCH, NO_MARK, Mark, marked
from sandboxq.broker.commands.binary import (
    new_reference,
    note,
    store,
    sweep,
)
from sandboxq.broker.keys import QueueKeys
from sandboxq.errors import QueueError
from sandboxq.model.job import KEEP_ALL, Keep
from sandboxq.model.outcome import Complete, HandBack
from tests.broker.case import NOW, TOKEN

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from tests.broker.case import Case

T = TOKEN.encode()
DONE = Complete(b"1", KEEP_ALL)


def _mark(case: Case, number: int = 1) -> Mark:
    return Mark(case.keys.mark_key("w"), number)


def _activate(case: Case, ids: list[str]) -> None:
    for start in range(0, len(ids), BATCH):
        case.active(*ids[start : start + BATCH])


def test_outcomes_whose_reply_was_lost_are_known(case: Case) -> None:
    """Each code as it was told, in the order of the settlements, of any number of calls."""
    ids = [str(n) for n in range(1, 2 * MOST_SETTLED + 8)]
    _activate(case, ids)
    case.redis.set(case.keys["3:lock"], "other")
    case.redis.delete(case.keys["150"])
    # What is handed back is sent behind the rest.
    kinds = {"2": HandBack(), "180": HandBack()}
    rows = [Settlement(i.encode(), T, kinds.get(i, DONE)) for i in ids]
    mark = _mark(case)

    codes = case.run(lambda broker: settle(broker, case.keys, rows, now_ms=NOW, mark=mark))

    assert (codes[2], codes[149]) == (-6, -1)
    assert case.run(lambda broker: settled(broker, mark, rows)) == codes


def test_a_mark_is_of_one_exchange(case: Case) -> None:
    """What another one did is no answer; without a mark nothing is left behind."""
    case.active("1", "2")
    rows = [Settlement(b"1", T, DONE)]
    case.run(lambda broker: settle(broker, case.keys, rows, now_ms=NOW, mark=_mark(case, 1)))
    assert case.run(lambda broker: settled(broker, _mark(case, 2), rows)) == [None]
    case.redis.delete(_mark(case).key)
    more = [Settlement(b"2", T, DONE)]
    case.run(lambda broker: settle(broker, case.keys, more, now_ms=NOW, mark=NO_MARK))
    assert not case.redis.exists(_mark(case).key)


def test_a_mark_goes_by_itself(case: Case) -> None:
    """A worker that was killed leaves nothing for ever, however many calls it had made."""
    _activate(case, [str(n) for n in range(1, MOST_SETTLED + 5)])
    rows = [Settlement(str(n).encode(), T, DONE) for n in range(1, MOST_SETTLED + 5)]
    case.run(lambda broker: settle(broker, case.keys, rows, now_ms=NOW, mark=_mark(case)))
    assert 0 < case.redis.pttl(_mark(case).key) <= 600_000
    assert sorted(case.run(lambda broker: marked(broker, _mark(case)))) == [0, 1]


def test_reports_whose_reply_was_lost_are_known(case: Case) -> None:
    """Else log rows and progress would come twice."""
    case.active("1")
    rows = [Report(b"1", T, "log", b"row")] * (BATCH + 3)
    mark = _mark(case)
    case.run(lambda broker: report(broker, case.keys, rows, mark=mark))
    assert case.run(lambda broker: reported(broker, mark, rows)) == [True] * len(rows)
    nothing = case.run(lambda broker: reported(broker, _mark(case, 2), rows))
    assert nothing == [False] * len(rows)


def test_a_report_that_cannot_be_written_is_refused_alone(case: Case) -> None:
    """Keys of another type, and numbers that are none, harm only their own row."""
    case.active("1", "2", "3")
    case.redis.set(case.keys["2:logs"], "no list")
    rows = [
        Report(b"1", T, "log", b"a"),
        Report(b"2", T, "log", b"b"),
        Report(b"3", T, "log", b"c", 10**30),
        Report(b"1", T, "progress", b"5"),
    ]
    codes = case.run(lambda broker: report(broker, case.keys, rows))
    assert (codes[0], codes[3]) == (0, 0)
    assert isinstance(codes[1], QueueError)
    assert "WRONGTYPE" in str(codes[1])
    assert case.items("1:logs") == ["a"]
    assert case.hash("1")["progress"] == "5"


@pytest.mark.parametrize("what", ["settle", "extend"])
def test_an_earlier_claim_is_refused_when_all_locks_are_gone(case: Case, what: str) -> None:
    """The number of the attempt tells whose the job is; its own holder may go on."""
    case.job("1", ats=2)
    case.redis.lpush(case.keys["active"], "1")

    def lost(started: int) -> bool:
        if what == "extend":
            return case.extend(("1", TOKEN), retake=True, started=started) == ["1"]
        row = Settlement(b"1", T, DONE, started=started)
        codes = case.run(lambda broker: settle(broker, case.keys, [row], now_ms=NOW, retake=True))
        return bool(codes == [-2])

    assert lost(1)
    assert case.items("active") == ["1"]
    assert not lost(2)


def test_arrays_of_a_running_job_are_not_swept(case: Case) -> None:
    """Redis was away for longer than the lock: the result is on its way all the same."""
    case.active("1")
    case.redis.delete(case.keys["1:lock"])
    reference = new_reference(case.keys, 3, "[]")

    async def prepare(broker: Broker) -> None:
        await note(broker, case.keys, reference, b"1")
        await store(broker, reference, [b"abc"])

    case.run(prepare)
    assert case.run(lambda broker: sweep(broker, case.keys)) == (0, b"0")
    row = Settlement(b"1", T, Complete(b"1", Keep(None), reference.text()))
    assert case.run(lambda broker: settle(broker, case.keys, [row], now_ms=NOW, retake=True)) == [0]
    assert case.run(lambda broker: sweep(broker, case.keys)) == (0, b"0")
    assert case.redis.get(reference.key) == "abc"


def test_a_mark_lies_in_the_slot_of_its_queue() -> None:
    """On a cluster the script that leaves it may touch no other."""
    assert "{tag}" in QueueKeys("{tag}").mark_key("w")
