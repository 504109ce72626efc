"""What a child is told of Redis: nothing, however it is spelled and wherever it stands."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sandboxq.sandbox.environment import environment_for, warn_of_withheld, withheld_by_chance
from sandboxq.sandbox.mechanisms.landlock import visible_entries

_URLS = [
    "redis://:top-secret@a",
    "rediss://user:top-secret@a:6380/1",
    "REDIS://:top-secret@a",
    "valkey://:top-secret@a",
    "redis+cluster://:top-secret@a:1,b:2",
    "rediss+cluster://user:top-secret@a,b",
    "redis+sentinel://:top-secret@a,b/mymaster",
    "valkey+sentinel+tls://:top-secret@a,b/mymaster",
    "redis+unix:///run/redis.sock?password=top-secret",
    "unix:///run/redis.sock?db=1&password=top-secret",
    "redis://:top%2Dsecret@a",
    "see redis://:top-secret@a and others",
]


@pytest.mark.parametrize("policy", ["none", "limits", "strict"])
@pytest.mark.parametrize("url", _URLS)
def test_no_spelling_reaches_a_child(policy: str, url: str) -> None:
    """Also not in a variable of another name, and not the password alone."""
    given = {
        "REDIS_URL": url,
        "CELERY_BROKER_URL": url,
        "LC_REDIS": url,
        "REDIS_PASSWORD": "top-secret",
        "PYTHON_OPTIONS": "--password=top-secret",
        "PATH": "/usr/bin",
    }
    assert environment_for(policy, None, given) == {"PATH": "/usr/bin"}


def test_short_passwords_hide_what_is_the_same() -> None:
    """A password of one letter would hide everything that has it."""
    given = {"REDIS_URL": "redis://:a@b", "REDIS_PASSWORD": "a", "PATH": "/usr/bin/a"}
    assert environment_for("limits", None, given) == {"PATH": "/usr/bin/a"}


@pytest.mark.parametrize("policy", ["none", "limits", "strict"])
def test_a_password_that_is_a_word_takes_no_paths_away(policy: str) -> None:
    """Jobs without HOME or PATH do not run; a URL stands in none of them by chance."""
    kept = {
        "HOME": "/home/worker",
        "PATH": "/home/worker/bin:/usr/bin",
        "PYTHONPATH": "/home/worker/lib",
        "USER": "worker",
    }
    url = "redis://:worker@a"
    given = {**kept, "REDIS_URL": url, "TMPDIR": url, "REDIS_PASSWORD": "worker"}
    assert environment_for(policy, None, given) == kept


_BY_CHANCE = {
    "APP_ENV": "production",
    "DATABASE_URL": "postgres://app:other@db/production",
    "BUCKET": "s3://production-photos",
    "HOSTS": "production,nonproduction.example",
    "CONFIG": '{"stage": "production", "password": "other"}',
}
_GIVEN_AWAY = {
    "REDIS_PASSWORD": "production",
    "CELERY_BROKER_AUTH": "production",
    "OPTIONS": "-h redis -a production",
    "FLAGS": "--password=production",
    "SETTINGS": '{"password": "production", "port": 1}',
    "STACK": "redis:6379,password=production,ssl=true",
    "OTHER_URL": "amqp://app:production@mq",
}


@pytest.mark.parametrize("policy", ["none", "limits"])
def test_a_password_that_is_a_word_takes_nothing_away_by_chance(policy: str) -> None:
    """A job without APP_ENV behaves as on another machine, or does not run."""
    given = {**_BY_CHANCE, **_GIVEN_AWAY, "REDIS_URL": "redis://:production@a"}
    assert environment_for(policy, None, given) == _BY_CHANCE


@pytest.mark.parametrize("password", ["Tr0ub4dor", "k9s-frankfurt", "correcthorsebatterystaple"])
def test_a_password_that_is_no_word_is_found_anywhere(password: str) -> None:
    """Whatever the variable, and the text around it."""
    given = {"REDIS_URL": f"redis://u:{password}@a", "X": password, "Y": f"0:{password}:1"}
    assert environment_for("limits", None, given) == {}


def test_what_is_withheld_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Where name and value do not say it themselves."""
    given = {**_GIVEN_AWAY, "REDIS_URL": "redis://:production@a", "X": "redis://:production@a"}
    told = withheld_by_chance("limits", None, given)
    assert told == ["OPTIONS", "FLAGS", "SETTINGS", "STACK", "OTHER_URL"]
    assert withheld_by_chance("strict", None, given) == []
    with caplog.at_level(logging.WARNING, "sandboxq"):
        warn_of_withheld("limits", None, given)
        warn_of_withheld("limits", None, given)
    (record,) = caplog.records
    assert "jobs do not see OPTIONS, FLAGS, SETTINGS, STACK and OTHER_URL" in record.getMessage()
    assert "production" not in record.getMessage()


def test_what_has_no_password_stays_and_what_is_named_goes_along() -> None:
    """A job's own Redis is its own; a policy that names a variable means it."""
    given = {"CACHE": "redis://cache:6379/0", "REDIS_URL": "redis://:top-secret@a"}
    assert environment_for("limits", None, given) == {"CACHE": "redis://cache:6379/0"}
    assert environment_for("strict", ["REDIS_URL"], given) == {"REDIS_URL": given["REDIS_URL"]}


def test_settings_beside_sources_are_not_readable(tmp_path: Path) -> None:
    """pyproject.toml may say where Redis is, and its password."""
    for name in ("pyproject.toml", ".env", "tasks.py", "data.json"):
        (tmp_path / name).write_text("")
    names = {Path(path).name for path in visible_entries(str(tmp_path))}
    assert "tasks.py" in names
    assert not names & {"pyproject.toml", ".env"}
