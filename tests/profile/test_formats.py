"""Profiles for other tools: speedscope's own schema takes them; stacks are folded."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from sandboxq.errors import UsageError
from sandboxq.model.profile import JobProfile, profile_from_stored

# As the npm package speedscope 1.25.0 ships it (MIT).
SCHEMA = Path(__file__).parent / "speedscope-1.25.0.schema.json"


def profile(**members: Any) -> JobProfile:
    """Return one of a small program."""
    document = {
        "id": "x", "job_id": "17", "name": "photo", "attempt": 2, "worker": "w", "pid": 7,
        "at": 5.5, "clock": "wall", "hz": 100, "seconds": 3.0, "ended": "time", "samples": 6,
        "missed": 0, "note": "",
        "functions": [["", "", 0], ["process", "/a/jobs.py", 3], ["a;b", "/a/jobs.py", 9],
                      ["thread x", "", 0]],
        "nodes": [[0, 0, 0, 0, 0, 0], [0, 1, 5, 1, 500_000, 1], [1, 2, 11, 2, 1_500_000, 2],
                  [0, 3, 0, 0, 0, 0], [3, 2, 12, 3, 1_000_000, 4]],
        **members,
    }  # fmt: skip
    made = profile_from_stored(zlib.compress(json.dumps(document).encode()))
    assert made is not None
    return made


def test_speedscope_takes_it() -> None:
    """By its published schema; whole, and without any sample."""
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))
    for each in (profile(), profile(clock="cpu"), profile(nodes=[[0, 0, 0, 0, 0, 0]])):
        made = json.loads(json.dumps(each.speedscope()))
        assert not list(validator.iter_errors(made))
        (shown,) = made["profiles"]
        assert len(shown["samples"]) == len(shown["weights"])
        assert shown["endValue"] == pytest.approx(sum(shown["weights"]))
        for sample in shown["samples"]:
            assert all(0 <= index < len(made["shared"]["frames"]) for index in sample)
    assert not validator.is_valid({"profiles": 3})


def test_folded_stacks() -> None:
    """Microseconds behind the frames, the outermost first; semicolons only between them."""
    assert profile().folded().splitlines() == [
        "process (jobs.py):5 500000",
        "process (jobs.py):5;a,b (jobs.py):11 1500000",
        "thread x;a,b (jobs.py):12 1000000",
    ]
    assert profile().folded("cpu").splitlines()[0] == "process (jobs.py):5 1"
    with pytest.raises(UsageError, match="clock must be one of wall, cpu"):
        profile().folded("sun")  # type: ignore[arg-type]


def test_sums_by_function() -> None:
    """In itself, and with what it has called; a function that calls itself counts once."""
    rows = [(it.name, own, total) for it, own, total in profile().by_function()]
    assert rows == [("a;b", 2.5, 2.5), ("process", 0.5, 2.0), ("thread x", 0.0, 1.0)]
    assert profile().total == 3.0


def test_as_plain_values() -> None:
    """For programs."""
    made = json.loads(json.dumps(profile().as_dict()))
    assert (made["job_id"], made["attempt"], made["total"]) == ("17", 2, 3.0)
    assert made["nodes"][2] == [1, 2, 11, 2, 1.5, 2e-06]
