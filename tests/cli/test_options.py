"""What the command line's own kinds of values accept."""

from __future__ import annotations

import click
import pytest

from sandboxq import RateLimit
from sandboxq.cli.main import cli
from sandboxq.cli.options import Limiter, Size
from sandboxq.cli.run_options import GROUPS, OTHERS, GroupedCommand


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("10/1s", RateLimit(10, 1)),
        ("10/s", RateLimit(10, 1)),
        ("600/1m", RateLimit(600, 60)),
        ("1/250ms", RateLimit(1, 0.25)),
        ("5/1.5h", RateLimit(5, 5400)),
    ],
)
def test_limits_in_words(text: str, limit: RateLimit) -> None:
    """People say so many in so much time."""
    assert Limiter().convert(text, None, None) == limit


@pytest.mark.parametrize("text", ["", "10", "10/", "/1s", "0/1s", "-1/1s", "10/0s", "10/1d", "a/b"])
def test_nonsense_is_a_usage_error(text: str) -> None:
    """A limit that is not understood must not be none."""
    with pytest.raises(click.BadParameter):
        Limiter().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "size"),
    [("65536", 65536), ("1K", 1024), ("500M", 500 << 20), ("1.5g", 3 << 29), ("2GiB", 2 << 30)],
)
def test_sizes_in_words(text: str, size: int) -> None:
    """Memory is counted in powers of 1024."""
    assert Size().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "M", "-1M", "0", "1T", "one"])
def test_no_size_is_a_usage_error(text: str) -> None:
    """A limit that is not understood must not be none."""
    with pytest.raises(click.BadParameter):
        Size().convert(text, None, None)


def test_every_option_of_run_is_in_a_group() -> None:
    """A new one would stand among the others at the end of a long page."""
    run = cli.get_command(click.Context(cli), "run")
    assert isinstance(run, GroupedCommand)
    groups = dict(run.groups(click.Context(run, help_option_names=["--help"])))
    assert [each.opts for each in groups.pop(OTHERS)] == [["--help"]]
    assert list(groups) == list(GROUPS)
