"""The script loader."""

from __future__ import annotations

import hashlib

import pytest

from sandboxq.broker.connect.script import load


def test_a_script_brings_each_part_once_and_before_its_use() -> None:
    """Lua knows a local function only below its definition; twice defined it would be two."""
    text = load("settle").text
    assert text.count("local function open_queue(") == 1
    assert text.index("local function open_queue(") < text.index("open_queue(base)\n")
    assert "@include" not in text


def test_a_part_of_a_function_is_that_functions_alone() -> None:
    """What two functions need each has; what the script has both use."""
    text = load("settle").text
    assert text.count("local function delete_jobs(") == 2
    assert text.count("local function digits(") == 1


def test_comments_stay_behind_and_strings_do_not() -> None:
    """What is sent once for each server may be small; it must still be the same program."""
    text = load("claim").text
    assert not [line for line in text.splitlines() if line.startswith("--")]
    assert "'active'" in text


def test_the_sha_is_the_one_redis_computes() -> None:
    """EVALSHA finds a script by it."""
    script = load("extend")
    assert script.sha == hashlib.sha1(script.text.encode()).hexdigest()  # noqa: S324 - Redis' own
    assert load("extend") is script


def test_a_missing_script_is_an_error() -> None:
    """A misspelt name must not become an empty program."""
    with pytest.raises(FileNotFoundError):
        load("no-such-script")
