"""Settings: refused when they cannot work, read from where the commands page says."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.config import (
    RateLimit,
    WorkerOptions,
    WorkerSettings,
    project_settings,
    settings_from_options,
)
from sandboxq.errors import UsageError
from sandboxq.model.job import KEEP_ALL, KEEP_NONE, Keep

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "options",
    [
        {"procs": 0},
        {"procs": -1},
        {"procs": True},
        {"procs": "many"},
        {"concurrency": 0},
        {"lock_duration": 0},
        {"lock_duration": float("nan")},
        {"shutdown_timeout": -1},
        {"name": "two words"},
        {"limiter": (10, 1)},
        {"max_started_attempts": 0},
        {"backoff_strategies": {"exponential": lambda *_: 1}},
        {"backoff_strategies": {"mine": 5}},
        {"colour": "blue"},
    ],
)
def test_settings_that_cannot_work_are_refused(options: WorkerOptions) -> None:
    """A worker that starts with nonsense shows it only under load."""
    with pytest.raises(UsageError) as refusal:
        settings_from_options(options)
    assert next(iter(options)) in str(refusal.value)


@pytest.mark.parametrize(
    ("jobs", "duration"), [(0, 1), (1.5, 1), (True, 1), (1, 0), (1, float("nan")), (1, 0.0001)]
)
def test_limits_that_cannot_work_are_refused(jobs: Any, duration: float) -> None:
    """Redis would take half a job or a window of no length for something else."""
    with pytest.raises(UsageError, match="limiter"):
        RateLimit(jobs, duration)


def test_a_limit_in_milliseconds() -> None:
    """What the wire wants."""
    assert RateLimit(10).duration_ms == 1000
    assert RateLimit(10, dt.timedelta(minutes=1)).duration_ms == 60_000


def test_durations_may_be_timedelta() -> None:
    """Both ways of writing half a minute mean the same."""
    settings = settings_from_options({"lock_duration": dt.timedelta(seconds=30)})
    assert settings.lock_ms == 30_000


def test_removal_options_read_as_in_bullmq() -> None:
    """True removes at once, False keeps all, a number keeps so many."""
    settings = settings_from_options({"remove_on_complete": True, "remove_on_fail": 7})
    assert (settings.remove_on_complete, settings.remove_on_fail) == (KEEP_NONE, Keep(count=7))
    assert settings_from_options({"remove_on_fail": False}).remove_on_fail == KEEP_ALL


def test_short_locks_are_renewed_more_often() -> None:
    """Several renewals may fail in a row before a lock is lost."""
    assert WorkerSettings(lock_duration=2).heartbeat_interval == 0.25
    assert WorkerSettings(lock_duration=300).heartbeat_interval == 0.5


def test_project_file_is_read(tmp_path: Path) -> None:
    """Settings may live beside the code."""
    (tmp_path / "pyproject.toml").write_text('[tool.sandboxq]\nlock-duration = 5\nprefix = "b"\n')
    assert project_settings(tmp_path) == {"lock_duration": 5, "prefix": "b"}


def test_missing_project_file_means_no_settings(tmp_path: Path) -> None:
    """Nobody needs a pyproject.toml."""
    assert project_settings(tmp_path) == {}


def test_broken_project_file_is_said(tmp_path: Path) -> None:
    """A slip in the file must not look like settings that have no effect."""
    (tmp_path / "pyproject.toml").write_text("[tool.sandboxq\n")
    with pytest.raises(UsageError, match=r"pyproject\.toml"):
        project_settings(tmp_path)
