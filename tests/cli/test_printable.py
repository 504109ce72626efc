"""One function makes any text safe for a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxq.cli import logs
from sandboxq.observe.telemetry import JobLines
from sandboxq.payload.printable import printable, printable_json, printable_line

if TYPE_CHECKING:
    from typing import Any

FORBIDDEN = {*range(9), *range(11, 32), *range(127, 160), *range(0xD800, 0xE000)}
FORBIDDEN |= {0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF}
ANY_CHARACTER = st.characters(codec=None, exclude_categories=(), exclude_characters="\n")
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY_TEXT)
def test_no_character_that_a_terminal_obeys_is_left(text: str) -> None:
    """And what is left can be encoded."""
    shown = printable(text)
    assert not FORBIDDEN & set(map(ord, shown))
    shown.encode()
    assert not {"\n", "\t"} & set(printable_line(text))


@pytest.mark.parametrize(
    "text", ["user:id:42 [b]x[/b]", "é 🆔 👩‍👩‍👧 \N{HEBREW LETTER ALEF}", "a\tb\nc", "\\x1b"]
)
def test_other_text_stays_as_it_is(text: str) -> None:
    """Whatever language, emoji, or brackets."""
    assert printable(text) == text


def test_escapes_look_like_those_of_python() -> None:
    """So that they can be read, and searched for."""
    assert printable("\x1b\x9b\u202e\ud800\r") == "\\x1b\\x9b\\u202e\\ud800\\x0d"


@given(st.recursive(ANY_TEXT, lambda inner: st.dictionaries(ANY_TEXT, inner)))
def test_json_stays_the_same_document(value: Any) -> None:
    """Escaped in JSON's own way."""
    text = printable_json(json.dumps(value, ensure_ascii=False))
    assert not FORBIDDEN & set(map(ord, text))
    assert json.loads(text) == value


@given(st.lists(st.text(ANY_CHARACTER), min_size=1), ANY_TEXT)
def test_lines_of_jobs_are_rows_of_json_however_many(lines: list[str], job_id: str) -> None:
    """They are made together; each is what it would be alone."""
    event = JobLines(job_id, 42, "stdout", lines)
    text = logs.Format(logs.JSON).event(0.5, event)
    assert not FORBIDDEN & set(map(ord, text))
    assert [json.loads(row) for row in text.split("\n")[:-1]] == [
        {
            "time": "1970-01-01T00:00:00.500Z", "level": "info",
            "message": f"[job {job_id}] {line}" if job_id else f"[child 42] {line}",
            "event": "line", "job_id": job_id, "child_pid": 42, "stream": "stdout",
        }
        for line in lines
    ]  # fmt: skip


@given(st.lists(st.text(ANY_CHARACTER), min_size=1))
def test_lines_of_jobs_are_lines_of_the_log_however_many(lines: list[str]) -> None:
    """Each with time and job, and safe."""
    text = logs.Format(logs.TEXT).event(0.5, JobLines("7", 42, "stdout", lines))
    head = "1970-01-01T00:00:00Z INFO    [job 7] "
    assert text == "".join(f"{head}{printable(line)}\n" for line in lines)


@pytest.mark.parametrize("options", [("failed",), ("--id", "1"), ("failed", "--json")])
def test_jobs_shows_what_no_terminal_should_get(
    server_url: str, queue_name: str, options: tuple[str, ...]
) -> None:
    """Node takes lone surrogates and control characters; `jobs` died on them, or obeyed."""
    import redis

    client = redis.Redis.from_url(server_url)
    key = f"bull:{queue_name}"
    client.hset(f"{key}:meta", mapping={"opts.maxLenEvents": "10000"})
    client.hset(
        f"{key}:1",
        mapping={
            "name": "evil\x1b[2J\u202e",
            "data": '{"k":"\\ud800\\u001b]0;owned\\u0007"}',
            "opts": "{}",
            "timestamp": "1",
            "failedReason": "\x1b]0;owned\x07\x9b2J",
        },
    )
    client.zadd(f"{key}:failed", {"1": 1})
    done = subprocess.run(
        [sys.executable, "-m", "sandboxq", "jobs", queue_name, *options, "--url", server_url],
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not FORBIDDEN & set(map(ord, done.stdout.decode()))
    assert "owned" in done.stdout.decode()
