"""What a job is told of its children, and how their ties are cut (3.21, 3.24)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.broker.commands import children
from sandboxq.errors import JobNotFound, ParentNotFound, UsageError
from sandboxq.model.dependencies import FIRST_PAGE, Dependencies, Page
from tests.broker.case import NOW, TOKEN

if TYPE_CHECKING:
    from tests.broker.case import Case

# More than a compact hash or set holds, so that SCAN goes page by page.
MANY = 700


def brood(case: Case, count: int) -> None:
    """Give the job `p` so many children of each kind."""
    keys, redis = case.keys, case.redis
    case.job("p")
    redis.hset(keys["p:processed"], mapping={keys[f"c{i}"]: str(i) for i in range(count)})
    redis.sadd(keys["p:dependencies"], *[keys[f"w{i}"] for i in range(count)])
    redis.hset(keys["p:failed"], mapping={keys[f"i{i}"]: f"why {i}" for i in range(count)})
    redis.zadd(keys["p:unsuccessful"], {keys[f"f{i}"]: NOW + i for i in range(count)})


def test_answers(case: Case) -> None:
    """Keys are whole, as children may be in any queue; values are JSON, reasons are text."""
    brood(case, 1)
    keys = case.keys
    whole = Dependencies({keys["c0"]: 0}, [keys["w0"]], {keys["i0"]: "why 0"}, [keys["f0"]])

    assert case.run(lambda b: children.values_of(b, keys, "p")) == whole.processed
    assert case.run(lambda b: children.ignored_of(b, keys, "p")) == whole.ignored
    assert case.run(lambda b: children.failed_of(b, keys, "p")) == whole.failed
    assert case.run(lambda b: children.dependencies_of(b, keys, "p")) == whole
    counts = {"processed": 1, "unprocessed": 1, "ignored": 1, "failed": 1}
    assert case.run(lambda b: children.counts_of(b, keys, "p")) == counts


def test_a_job_without_children(case: Case) -> None:
    """Nothing there is not an error: most jobs have none."""
    keys = case.keys
    assert case.run(lambda b: children.dependencies_of(b, keys, "p")) == ({}, [], {}, [], None)
    assert set(case.run(lambda b: children.counts_of(b, keys, "p")).values()) == {0}
    found = case.run(lambda b: children.range_of(b, keys, "p", "processed", start=0, end=-1))
    assert found == (0, [])


def test_a_value_that_is_no_json_hides_no_other(case: Case) -> None:
    """One broken worker must not keep a parent from what the others made."""
    case.redis.hset(case.keys["p:processed"], mapping={"a": "{", "b": "2"})

    values = case.run(lambda b: children.values_of(b, case.keys, "p"))

    assert values == {"a": "{", "b": 2}


def test_pages_have_every_child(case: Case) -> None:
    """A parent of thousands is read in parts; the cursor stands for all four kinds."""
    brood(case, MANY)

    async def read(broker: Any) -> list[Dependencies]:
        cursor: str | None = FIRST_PAGE
        pages = []
        while cursor is not None:
            page = Page.checked(cursor, 50)
            pages.append(await children.dependencies_of(broker, case.keys, "p", page))
            cursor = pages[-1].cursor
        return pages

    pages = case.run(read)

    assert len(pages) >= MANY / 50
    assert max(len(page.processed) for page in pages) < 200
    assert {key for page in pages for key in page.processed} == {
        case.keys[f"c{i}"] for i in range(MANY)
    }
    assert {key for page in pages for key in page.unprocessed} == {
        case.keys[f"w{i}"] for i in range(MANY)
    }
    assert len({key for page in pages for key in page.ignored}) == MANY
    assert [key for page in pages for key in page.failed] == [
        case.keys[f"f{i}"] for i in range(MANY)
    ]


@pytest.mark.parametrize(
    ("cursor", "count"),
    [
        ("", 1),
        ("0:0:0", 1),
        ("0:0:0:x", 1),
        ("0:0:0:-1", 1),
        ("0:0:0:²", 1),
        ("0:0:0:99999999999999999999", 1),
        (7, 1),
        (FIRST_PAGE, 0),
        (FIRST_PAGE, 1.5),
        (FIRST_PAGE, True),
        (FIRST_PAGE, 10_001),
    ],
)
def test_wrong_pages(cursor: Any, count: Any) -> None:
    """They reach Redis as arguments of SCAN, also from a child that runs somebody's code."""
    with pytest.raises(UsageError):
        Page.checked(cursor, count)


@pytest.mark.parametrize("kind", ["processed", "unprocessed", "ignored", "failed"])
def test_ranges(case: Case, kind: str) -> None:
    """Dashboards show children 21 to 40: neighbouring ranges share none and leave none out."""
    brood(case, MANY)

    async def read(broker: Any) -> list[children.ChildRange]:
        steps = [(0, 299), (300, 300), (301, -1), (MANY, MANY + 5), (650, 9999)]
        return [
            await children.range_of(broker, case.keys, "p", kind, start=start, end=end)
            for start, end in steps
        ]

    ranges = case.run(read)

    assert [len(each.items) for each in ranges] == [300, 1, MANY - 301, 0, 50]
    assert {each.total for each in ranges} == {MANY}
    assert len({key for each in ranges[:3] for key, _ in each.items}) == MANY


def test_ranges_look_further_than_one_call(case: Case) -> None:
    """A call is bounded; the place far down is found by several."""
    case.redis.sadd(case.keys["p:dependencies"], *range(12_000))

    found = case.run(
        lambda b: children.range_of(b, case.keys, "p", "unprocessed", start=11_990, end=-1)
    )

    assert (found.total, len(found.items)) == (12_000, 10)


# ── cutting ─────────────────────────────────────────────────────────────────


def family(case: Case, *child_ids: str) -> None:
    """Let the parent `p` wait for these children, which wait to be run."""
    case.job("p")
    case.redis.zadd(case.keys["waiting-children"], {"p": NOW})
    tie(case, "p", *child_ids)


def tie(case: Case, parent_id: str, *child_ids: str) -> None:
    """Queue children of a job that exists."""
    link = {"id": parent_id, "queueKey": case.keys.base.removesuffix(":")}
    case.waiting(*child_ids, parentKey=case.keys[parent_id], parent=json.dumps(link))
    names = [case.keys[child_id] for child_id in child_ids]
    case.redis.sadd(case.keys[f"{parent_id}:dependencies"], *names)


def test_the_last_child_that_is_cut_off_releases_the_parent(case: Case) -> None:
    """It was all that the parent waited for; the child itself runs on its own."""
    family(case, "c", "d")

    first = case.run(lambda b: children.unlink(b, case.keys, "c"))
    still = case.scores("waiting-children")
    second = case.run(lambda b: children.unlink(b, case.keys, "d"))

    assert (first, second, still) == (True, True, {"p": NOW})
    assert case.items("wait") == ["d", "c", "p"]
    assert case.events() == [{"event": "waiting", "jobId": "p", "prev": "waiting-children"}]
    assert "parentKey" not in case.hash("c")
    assert "parent" not in case.hash("c")


def test_nothing_to_cut(case: Case) -> None:
    """A child that is done, a job that never had a parent, and what is gone."""
    family(case, "c")
    case.redis.srem(case.keys["p:dependencies"], case.keys["c"])
    case.job("single")

    assert case.run(lambda b: children.unlink(b, case.keys, "c")) is False
    assert case.run(lambda b: children.unlink(b, case.keys, "single")) is False
    with pytest.raises(JobNotFound):
        case.run(lambda b: children.unlink(b, case.keys, "no"))
    case.redis.delete(case.keys["p"])
    with pytest.raises(ParentNotFound):
        case.run(lambda b: children.unlink(b, case.keys, "c"))


def test_pending_children_are_removed_with_theirs(case: Case) -> None:
    """And the parent, which waits for nothing any more, goes on."""
    family(case, "c", "d")
    tie(case, "c", "x")
    case.redis.lrem(case.keys["wait"], 0, "c")
    case.redis.zadd(case.keys["waiting-children"], {"c": NOW})
    heard: list[int] = []

    removed = case.run(lambda b: children.prune(b, case.keys, "p", heard.append))

    assert (removed, heard) == (3, [3])
    assert [case.hash(each) for each in ("c", "d", "x")] == [{}, {}, {}]
    assert case.items("wait") == ["p"]
    gone = [each["jobId"] for each in case.events() if each["event"] == "removed"]
    assert sorted(gone) == ["c", "d", "x"]


def test_children_that_run_or_failed_stay(case: Case) -> None:
    """The one would be torn from its worker, the other is what somebody has to look at."""
    family(case, "run", "bad", "idle")
    case.redis.lrem(case.keys["wait"], 0, "run")
    case.redis.lpush(case.keys["active"], "run")
    case.redis.set(case.keys["run:lock"], TOKEN)
    case.redis.lrem(case.keys["wait"], 0, "bad")
    case.redis.zadd(case.keys["failed"], {"bad": NOW})

    removed = case.run(lambda b: children.prune(b, case.keys, "p", lambda _: None))

    assert removed == 1
    assert case.redis.smembers(case.keys["p:dependencies"]) == {case.keys["run"], case.keys["bad"]}
    assert case.scores("waiting-children") == {"p": NOW}


def test_thousands_are_removed_in_bounded_calls(case: Case) -> None:
    """Redis must answer others in between, and whoever waits wants to see it move."""
    family(case, *[f"c{i}" for i in range(3000)])
    heard: list[int] = []

    removed = case.run(lambda b: children.prune(b, case.keys, "p", heard.append))

    assert (removed, heard[-1]) == (3000, 3000)
    assert len(heard) > 10
    assert case.items("wait") == ["p"]
