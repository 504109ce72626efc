"""What is hidden, searched for and said: texts alone, no server."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest

from sandboxq.broker.commands.peek import Part
from sandboxq.errors import UsageError
from sandboxq.web.query import query_from_text
from sandboxq.web.reads.failures import top_frame
from sandboxq.web.reads.job import error_line, traces_of
from sandboxq.web.redact import HIDDEN, Redaction
from sandboxq.web.sentences import sentence_of

SECRETS: list[tuple[str, Any]] = [
    ("password", "x"),
    ("userPassword", "x"),
    ("API_KEY", "x"),
    ("x-api-key", "x"),
    ("Authorization", "x"),
    ("client_secret", {"a": 1}),
    ("refreshToken", "x"),
    ("tokens", ["x"]),
    ("sessionCookie", "x"),
    ("pwd", 1234),
    ("PrivateKey", "x"),
]
PLAIN: list[tuple[str, Any]] = [
    ("max_tokens", 4096),
    ("has_password", True),
    ("secret", None),
    ("author", "x"),
    ("key", "x"),
    ("passenger", "x"),
]


@pytest.mark.parametrize(("key", "value"), SECRETS)
def test_secrets_are_hidden(key: str, value: Any) -> None:
    """In values, and in texts of JSON, whole or cut anywhere."""
    redaction = Redaction()
    data = {"a": [{key: value, "b": 1}], "c": json.dumps({key: value})}
    assert redaction.value(data)["a"] == [{key: HIDDEN, "b": 1}]
    assert json.loads(redaction.value(data)["c"]) == {key: HIDDEN}
    text = json.dumps({"a": [{key: value, "b": "kept"}]}, indent=1)
    assert json.loads(redaction.json_text(text)) == {"a": [{key: HIDDEN, "b": "kept"}]}
    whole = json.dumps({key: {"deep": ["sss", {"x": "sss"}]}, "z": "kept"})
    for end in range(len(whole)):
        assert "sss" not in redaction.json_text(whole[:end])
    assert "kept" in redaction.json_text(whole)


@pytest.mark.parametrize(("key", "value"), PLAIN)
def test_what_is_no_secret_stays(key: str, value: Any) -> None:
    """A number of tokens, a flag, a word that begins like one."""
    redaction = Redaction()
    assert redaction.value({key: value}) == {key: value}
    assert json.loads(redaction.json_text(json.dumps({key: value}))) == {key: value}


@pytest.mark.parametrize(
    "data",
    [
        ["a", ":", {"password": "sss"}],
        ["a", ": ", ["b", ":"], {"password": ["sss"]}],
        {"a": '"', "b": "\\", "password": "sss"},
        {"body": '{"password": "sss"}'},
        [' [{"body": "{\\"password\\": \\"sss\\"}"}]'],
        {"x" * 300 + "password": "sss"},
    ],
)
def test_all_that_shows_a_value_hides_the_same(data: Any) -> None:
    """Whatever stands before a secret, and however deep it is: as a tree, as text, as text cut."""
    redaction, whole = Redaction(), json.dumps(data)
    assert redaction.value(data) == json.loads(redaction.json_text(whole))
    for end in range(len(whole) + 1):
        assert "sss" not in redaction.json_text(whole[:end])


def test_quotes_that_do_not_pair_hide_all_the_same() -> None:
    """Of an error, which is no JSON."""
    assert "sss" not in Redaction().json_text('a 5" pipe: {"password": "sss"}')
    assert "sss" not in Redaction().json_text('{"password": {"a": "}sss\\')
    whole = '["redis://me:sss@host/1"]'
    for end in range(len(whole) + 1):
        assert "sss" not in Redaction().json_text(whole[:end])
    for kept in (
        "at redis://host:6379",
        "http://[::1]:80",
        "(http://host:8080).",
        "see http://h:1…",
    ):
        assert Redaction().text(kept) == kept


def test_own_words_and_urls() -> None:
    """Words of one's own; passwords in URLs, and credentials in texts."""
    redaction = Redaction(["IBAN"])
    assert redaction.value({"user_iban": "DE12"}) == {"user_iban": HIDDEN}
    text = "postgres://me:hunter22@db/x and Authorization: Bearer abcdefghij"
    assert redaction.text(text) == f"postgres://me:{HIDDEN}@db/x and Authorization: Bearer {HIDDEN}"
    assert (
        redaction.json_text('{"url": "redis://:hunter22@h"}') == f'{{"url": "redis://:{HIDDEN}@h"}}'
    )


def _row(**fields: Any) -> dict[str, Part]:
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in fields.items()
    }
    return {name: Part(text.encode(), len(text.encode())) for name, text in texts.items()}


@pytest.mark.parametrize(
    ("search", "fits"),
    [
        ("id:17", True),
        ("id:1", False),
        ("id:1*", True),
        ("name:SIZE", True),
        ("name:r*e", True),
        ("data.a.b:7", True),
        ("data.a.b:7*7", False),
        ("data.list.1:two", True),
        ("data.list:two", True),
        ("data.list.9:two", False),
        ("data.flag:true", True),
        ("data.none:null", True),
        ("data.a.b.c:7", False),
        ("data:hello", True),
        ("hello", True),
        ("h*o", True),
        ("http://x", False),
        ("secret-value", False),
        ("data.token:secret-value", False),
    ],
)
def test_what_fits_a_search(search: str, fits: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Whole for ids and members of data, contained for names and texts."""
    data = {"a": {"b": 7}, "list": ["one", "two"], "flag": True, "none": None}
    data |= {"text": "hello", "token": "secret-value"}
    row = _row(name="resize", data=data)
    assert query_from_text(search).fits("17", row, Redaction()) is fits


def test_searches_that_are_too_long() -> None:
    """They are refused."""
    for text in ("x" * 501, "a " * 11):
        with pytest.raises(UsageError):
            query_from_text(text)


def test_long_texts_take_no_memory() -> None:
    """A regular expression that keeps each step takes 120 bytes a character."""
    text = json.dumps({"a": "x" * 1_000_000, "password": ["\n" * 500_000]})
    tracemalloc.start()
    told = Redaction().json_text(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert json.loads(told) == {"a": "x" * 1_000_000, "password": HIDDEN}
    assert peak < 20 * len(text)


def test_hostile_texts_take_no_time() -> None:
    """Searches with many stars, traces of blank lines: what strangers write is read in one pass."""
    redaction, begun = Redaction(), time.process_time()
    text = "a" * 200_000
    query = query_from_text('"' + "a*" * 200 + 'b"')
    assert not query.fits("1", _row(data=text, name="x"), redaction)
    assert top_frame(["\n" * 64_000, "\n" + " " * 64_000 + "at " + "(" * 64_000]) == ""
    for piece in ('"', '\\"', '":', "{", "://", "Bearer ", '"password":['):
        redaction.json_text(piece * (200_000 // len(piece)))
        redaction.text(piece * (200_000 // len(piece)))
    assert time.process_time() - begun < 20


@pytest.mark.parametrize(
    ("cron", "sentence"),
    [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("0 * * * *", "every hour at minute 0"),
        ("15 */2 * * *", "every 2 hours at minute 15"),
        ("0 3 * * *", "every day at 03:00"),
        ("0 30 9 * * 1-5", "every weekday at 09:30"),
        ("0 8 * * MON,THU", "every Monday, Thursday at 08:00"),
        ("0 0 1 * *", "on day 1 of the month at 00:00"),
        ("0 0 24 12 *", "on day 24 of December at 00:00"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("1-5 2,3 * * *", "by the pattern 1-5 2,3 * * *"),
        ("H H * * *", "by the pattern H H * * *"),
        ("nonsense", "by the pattern nonsense"),
    ],
)
def test_schedules_in_a_sentence(cron: str, sentence: str) -> None:
    """What is too odd is shown as it is."""
    assert sentence_of(cron, None, None) == sentence


def test_traces() -> None:
    """The frame where it was raised, in Python and in Node; of a cut list the whole ones."""
    python = 'Traceback (most recent call last):\n  File "/a/b/c.py", line 3, in f\nValueError: no'
    node = "Error: no\n    at Worker.run (/x/y/z.mjs:17:3)\n    at next (/x/q.mjs:1:1)"
    assert (top_frame([python]), error_line(python)) == ("b/c.py:3 f", "ValueError: no")
    assert (top_frame([node]), error_line(node)) == ("y/z.mjs:17 Worker.run", "Error: no")
    raw = json.dumps(["first " * 100, python, node], separators=(",", ":")).encode()
    assert traces_of(Part(raw, len(raw)))[1:] == [python, node]
    assert traces_of(Part(raw[50:], len(raw))) == [python, node]
    assert traces_of(Part(b"", 0)) == []
