"""Settings of ``run``: a flag for each, else the environment, else pyproject.toml."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from sandboxq import Keep, Policy, UsageError
from sandboxq.cli import run, worker_tables
from sandboxq.cli.main import cli
from sandboxq.cli.options import KeepJobs
from sandboxq.cli.run_options import take_policy
from sandboxq.config import WorkerSettings

if TYPE_CHECKING:
    from pathlib import Path

# What no command line can say, and why.
_PYTHON_ONLY = {
    "backoff_strategies": "functions",
    **dict.fromkeys(("on_failed", "on_stalled", "on_died"), "functions: --webhook"),
    "repeat_strategy": "a function",
    "secret": "a flag could be read by ps: $SANDBOXQ_SECRET",
}


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Policy]:
    """Return the policies that ``run`` was started with; nothing is started."""
    seen: list[Policy] = []

    def note(options: dict[str, Any]) -> Policy:
        seen.append(take_policy(options))
        message = "seen"
        raise UsageError(message)

    monkeypatch.setattr(worker_tables, "take_policy", note)
    monkeypatch.chdir(tmp_path)
    return seen


def _run(*flags: str, **environment: str) -> str:
    result = CliRunner().invoke(cli, ["run", "p.py", *flags], env=environment)
    assert result.exit_code == 2, result.output
    return result.output


def test_everything_that_python_can_say_has_a_flag() -> None:
    """A setting that only the Python interface has is one that most users have not."""
    flags = {parameter.name for parameter in run.command.params}
    settings = {field.name for field in fields(WorkerSettings)} - _PYTHON_ONLY.keys()
    grants = {field.name for field in fields(Policy)} - {"name"}
    assert (settings | grants) - flags == set()


def test_every_setting_has_its_variable() -> None:
    """``SANDBOXQ_<NAME>``, one for a pair of flags; what is typed each time has none."""
    without = {"processors", "burst", "help"}
    for parameter in run.command.params:
        if parameter.name not in without:
            assert parameter.name is not None
            expected = f"SANDBOXQ_{parameter.name.removeprefix('as_').upper()}"
            assert parameter.envvar == expected


def test_flag_then_environment_then_pyproject(policies: list[Policy], tmp_path: Path) -> None:
    """The nearer to the call, the stronger."""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.sandboxq]\npolicy = "strict"\nfiles = 10\nprocesses = 11\nscratch = "12K"\n'
        'read = "/usr"\nenvironment = ["A", "B"]\nfresh = true\n'
    )
    _run("--files", "30", SANDBOXQ_FILES="20", SANDBOXQ_PROCESSES="21", SANDBOXQ_NETWORK="1")
    assert policies == [
        Policy(
            "strict",
            files=30,
            processes=21,
            scratch=12 << 10,
            read=["/usr"],
            environment=["A", "B"],
            fresh=True,
            network=True,
        )
    ]


def test_what_nobody_says_is_the_policys_default(policies: list[Policy]) -> None:
    """Defaults are kept in one place."""
    _run()
    _run("--policy", "none", "--cpu-seconds", "2.5")
    assert policies == [Policy("limits"), Policy("none", cpu_seconds=2.5)]


def test_a_limit_that_is_not_enforced_is_refused(policies: list[Policy]) -> None:
    """`none` limits nothing: a sandbox is never weaker than what was asked for."""
    for flags in (["--processes", "5"], ["--scratch", "1G"], ["--file-size", "1G"]):
        output = _run("--policy", "none", *flags)
        assert "'none' limits nothing" in output
    assert policies == []


def test_a_misspelt_setting_is_refused(policies: list[Policy], tmp_path: Path) -> None:
    """A limit that is not understood must not be none."""
    (tmp_path / "pyproject.toml").write_text("[tool.sandboxq]\nmax-jobs-per-chlid = 3\n")
    assert "'max_jobs_per_chlid'; did you mean 'max_jobs_per_child'?" in _run()
    (tmp_path / "pyproject.toml").write_text("[tool]\nsandboxq = 3\n")
    assert "tool.sandboxq must be a table" in _run()
    (tmp_path / "pyproject.toml").write_text('tool = "x"\n')
    assert "pyproject.toml: tool must be a table" in _run()
    (tmp_path / "pyproject.toml").write_text("x = " + "[" * 100_000)
    assert "pyproject.toml cannot be read" in _run()
    (tmp_path / "pyproject.toml").unlink()
    (tmp_path / "pyproject.toml").mkdir()
    assert "pyproject.toml cannot be read" in _run()
    assert policies == []


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("all", Keep()),
        ("none", Keep(count=0)),
        ("1000", Keep(count=1000)),
        ("7d", Keep(age=7 * 86400)),
        ("10,1.5h", Keep(count=10, age=5400)),
    ],
)
def test_what_stays_in_words(text: str, keep: Keep) -> None:
    """So many, or so long, or both."""
    assert KeepJobs().convert(text, None, None) == keep


@pytest.mark.parametrize("text", ["", ",", "10,", ",7d", "-1", "7d,10", "some"])
def test_what_stays_must_be_understood(text: str) -> None:
    """Jobs that are removed by mistake are gone."""
    with pytest.raises(click.BadParameter):
        KeepJobs().convert(text, None, None)
