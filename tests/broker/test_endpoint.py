"""Where Redis is: URLs, what is refused, and that no password is ever shown."""

from __future__ import annotations

import socket
import traceback
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxq.broker.connect.endpoint import Endpoint, endpoint_from_url
from sandboxq.broker.connect.resolve import resolve_endpoint
from sandboxq.errors import BrokerUnavailable, UsageError
from tests.conftest import run_async

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "S3cr3t"  # noqa: S105 - an example


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://localhost:6380/3", "redis://localhost:6380/3"),
        (f"redis://:{SECRET}@h:1/0", "redis://h:1/0"),
        (f"redis://ann:{SECRET}@h", "redis://ann@h"),
        (f"redis://h?password={SECRET}", "redis://h"),
        (f"rediss://ann:{SECRET}@h:1/2?ssl_cert_reqs=none", "rediss://ann@h:1/2"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("unix:///run/valkey.sock?db=2", "unix:///run/valkey.sock"),
        ("valkey://h:1", "redis://h:1"),
        ("valkeys://h:1", "rediss://h:1"),
        ("valkey+unix:///run/valkey.sock", "unix:///run/valkey.sock"),
        (" REDIS://h:1 ", "redis://h:1"),
    ],
)
def test_every_common_form_is_understood_and_shown_without_its_password(
    url: str, safe: str
) -> None:
    """People paste URLs from many systems; logs and banners show where, never the secret."""
    endpoint = endpoint_from_url(url)

    assert endpoint.safe == safe
    assert str(endpoint) == safe
    assert SECRET not in repr(endpoint)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis://h:port",
        "redis://h:99999",
        "redis://h/zero",
        "redis://h/0#x",
        "redis://h?prot=3",
        "redis://h?protocol=3",
        "redis://h?decode_responses=True",
        "redis://h?socket_timeout=soon",
        "redis://h?ssl_cert_reqs=none",
        "rediss://h?ssl_cert_reqs=perhaps",
        "unix://",
    ],
)
def test_nonsense_is_a_usage_error_that_shows_the_forms(url: str) -> None:
    """Redis-py ignores half of these silently; a typo must not lead to another database."""
    with pytest.raises(UsageError, match="redis://"):
        endpoint_from_url(url)


@given(st.text(max_size=20))
def test_no_password_however_odd_appears_in_anything_that_is_printed(rest: str) -> None:
    """An unquoted '/', '#' or '[' makes URL parsers quote pieces of the password in errors."""
    url = f"redis://ann:{SECRET}{rest}@host:6379/0"
    try:
        shown = endpoint_from_url(url).safe
    except UsageError as error:
        shown = "".join(traceback.format_exception(error))
        # The traceback shows source lines; this test's own have the secret only by name.

    assert SECRET not in shown


def test_the_first_variable_that_is_set_names_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is part of the command line's interface: flag, SANDBOXQ_URL, REDIS_URL."""
    monkeypatch.setenv("REDIS_URL", "redis://second")
    monkeypatch.setenv("SANDBOXQ_URL", "")
    assert run_async(resolve_endpoint(None)) == (Endpoint("redis://second"), None)

    monkeypatch.setenv("SANDBOXQ_URL", "redis://first")
    assert run_async(resolve_endpoint(None)) == (Endpoint("redis://first"), None)
    assert run_async(resolve_endpoint("redis://flag")) == (Endpoint("redis://flag"), None)


def test_a_wrong_variable_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user who typed no URL must learn where the wrong one came from."""
    monkeypatch.setenv("SANDBOXQ_URL", "localhost:6379")

    with pytest.raises(UsageError, match=r"^\$SANDBOXQ_URL: "):
        run_async(resolve_endpoint(None))


def test_timeouts_come_from_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow links need longer deadlines than the defaults, without another setting."""
    monkeypatch.delenv("SANDBOXQ_URL", raising=False)
    endpoint = endpoint_from_url("redis://h?socket_timeout=1.5&socket_connect_timeout=7")

    assert (endpoint.answer_timeout, endpoint.connect_timeout) == (1.5, 7.0)


def test_without_any_url_the_embedded_server_of_the_directory_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hello world needs no Redis; and the endpoint is a private Unix socket."""
    monkeypatch.delenv("SANDBOXQ_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)

    endpoint, use = run_async(resolve_endpoint(None))

    assert use is not None
    assert endpoint.url == f"unix://{tmp_path}/.sandboxq/valkey.sock"
    use.release()


def test_a_directory_that_cannot_be_written_says_to_pass_a_url(tmp_path: Path) -> None:
    """Read-only containers are common; the message is the documentation."""
    (tmp_path / "file").write_text("not a directory")

    with pytest.raises(BrokerUnavailable, match="--url"):
        run_async(resolve_endpoint(None, directory=tmp_path / "file" / ".sandboxq"))


def test_the_longest_silence_is_one_that_the_kernel_takes() -> None:
    """What it counts in milliseconds and 32 bits kept every connection from coming up."""
    connection = endpoint_from_url("redis://h?socket_timeout=3153600000").new_connection()
    with socket.socket() as tcp:
        for option, value in connection.socket_keepalive_options.items():
            tcp.setsockopt(socket.IPPROTO_TCP, option, value)
