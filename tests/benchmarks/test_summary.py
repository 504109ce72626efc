"""The tables in the documents are the results files' own: no number is copied by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import constants, report, summary
from benchmarks.constants import CONSTANTS, Constant
from benchmarks.markers import with_block
from benchmarks.question import Target, at_most

if TYPE_CHECKING:
    from pathlib import Path

BLOCKS = list(summary.blocks(report.RESULTS))
SURROUNDINGS = {
    "date": "2026-11-28 10:40 UTC",
    "commit": "abc1234",
    "machine": "2 cores",
    "server": "Redis 7",
}


@pytest.mark.parametrize(("path", "name", "block"), BLOCKS, ids=[each[1] for each in BLOCKS])
def test_documents_say_what_the_results_say(path: str, name: str, block: str) -> None:
    """Otherwise run `python -m benchmarks summary`."""
    text = (summary.CHECKOUT / path).read_text(encoding="utf-8")

    assert with_block(text, name, block) == text


@pytest.mark.parametrize("constant", CONSTANTS, ids=lambda constant: constant.title)
def test_nobody_plans_with_less_than_was_measured(constant: Constant) -> None:
    """The examples of docs/how-to/capacity.md would promise too much."""
    found = constants.measured(report.RESULTS, constant)

    assert found is None or found <= constant.planned


def test_a_missed_target_is_shown_as_missed(tmp_path: Path) -> None:
    """A table that says "met" whatever was measured would be worse than none."""
    verdicts = [
        Target("rate", lambda found: found["ours"]["rate"], 40_000),
        at_most("ours", "cost", "cost", 32),
    ]
    found = {"ours": {"rate": 39_999.0, "cost": 24.04}}
    _write(tmp_path, "peers_add", found, [each.verdict(found)._asdict() for each in verdicts])

    table = summary.targets(tmp_path)

    assert "| W2 | adding | rate | ≥ 40,000 | 39,999 | **MISSED** | `peers --works W2` |" in table
    assert "|  |  | cost | ≤ 32 | 24 | met |  |" in table
    assert "`peers_add`: 2026-11-28 10:40 UTC, commit abc1234" in table
    assert "| W5 | latency of an idle worker |  |  |  | not measured yet | `latency` |" in table


def test_peers_are_ranked_and_what_they_cannot_do_is_left_open(tmp_path: Path) -> None:
    """The page about performance shows it."""
    rates = {"Celery, prefork": 500.0, "sandboxq, in children": 25_000.0, "Huey": 2_600.0}
    noop = {name: {"per_second": rate, "redis": 20.0} for name, rate in rates.items()}
    _write(tmp_path, "peers_noop", noop, [])
    nap = {"sandboxq, in children": {"per_second": 15_000.0}}
    _write(tmp_path, "peers_io", nap, [])

    rows = summary.peers(tmp_path).splitlines()[4:7]

    assert rows == [
        "| **sandboxq, in children** | 25,000 | 20 | 15,000 | – | – | – |",
        "| Huey | 2,600 | 20 | – | – | – | – |",
        "| Celery, prefork | 500 | 20 | – | – | – | – |",
    ]


def test_a_document_without_its_block_is_told() -> None:
    """A renamed marker must not leave old numbers standing."""
    with pytest.raises(ValueError, match="0 blocks begin with <!-- benchmarks: peers -->"):
        with_block("# README\n", "peers", "| table |")


def _write(folder: Path, name: str, medians: Any, targets: Any) -> None:
    content = {"surroundings": SURROUNDINGS, "medians": medians, "targets": targets, "runs": {}}
    (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
