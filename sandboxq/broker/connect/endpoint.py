"""Where one Redis is: a URL, checked, and shown without its password."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import RedisError

from sandboxq.errors import UsageError
from sandboxq.model.validation import LONGEST_WAIT, waiting_seconds

if TYPE_CHECKING:
    from pathlib import Path

# Seconds for the TCP or TLS connection and its greeting; socket_connect_timeout in the URL wins.
CONNECT_TIMEOUT = 5.0
# Seconds of silence while an answer is due, unless the URL says socket_timeout: below the default
# lock duration, so that a network which swallows packets is noticed before locks expire.
ANSWER_TIMEOUT = 10.0
# A connection that nothing goes over is asked whether it lives (man 7 tcp): after so many seconds,
# so often, and given up after so many answers that did not come.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3}
_LONGEST_MS = 2**31 - 1  # what the kernel counts with

# No server answers sooner; 0 would not mean "no limit" but "at once".
SHORTEST_TIMEOUT = 0.001

# Redis counts its databases in 32 bits.
MOST_DATABASE = 2**31 - 1

# What people write → what redis-py knows.
_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
    "valkey+unix": "unix",
    "redis+unix": "unix",
}
_OPTIONS = frozenset(
    {"db", "username", "password", "socket_timeout", "socket_connect_timeout", "socket_keepalive"}
)
_FORMS = (
    "write redis://[user:password@]host[:port][/database], rediss://… for TLS or "
    "unix:///path/to/socket; percent-encode special characters of a password"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One Redis, by URL. Its text form has no password."""

    url: str = field(repr=False)

    @property
    def safe(self) -> str:
        """The URL without password and options, for people and logs."""
        parts = urlsplit(self.url)
        user = f"{parts.username}@" if parts.username else ""
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{user}{host}{port}{parts.path}"

    @property
    def connect_timeout(self) -> float:
        """Seconds for a connection to come up."""
        return float(_arguments(self.url).get("socket_connect_timeout", CONNECT_TIMEOUT))

    @property
    def answer_timeout(self) -> float:
        """Seconds of silence until an answer that does not block on purpose."""
        return float(_arguments(self.url).get("socket_timeout", ANSWER_TIMEOUT))

    @property
    def is_remote(self) -> bool:
        """Whether a network may lie between: a connection over it can die on one side only."""
        return not self.url.startswith("unix:")

    def new_connection(self, client_name: str | None = None) -> Any:
        """Return an unconnected redis-py connection that never retries anything by itself."""
        arguments = _arguments(self.url)
        connection_class = arguments.pop("connection_class", Connection)
        # Link sets one deadline over a whole exchange, greeting included, instead of redis-py's
        # per read. RESP2, because replies have the same shapes on every server and version.
        arguments.update(socket_timeout=None, socket_connect_timeout=None, protocol=2)
        if self.is_remote:
            arguments["socket_keepalive_options"] = _tcp_options(self.answer_timeout)
        return connection_class(**arguments, client_name=client_name)

    @property
    def host(self) -> str:
        """The host, empty for a Unix socket."""
        return urlsplit(self.url).hostname or ""

    def at(self, host: str, port: int) -> Endpoint:
        """Return the same credentials and options at another address."""
        parts = urlsplit(self.url)
        user, at, _ = parts.netloc.rpartition("@")
        shown = f"[{host}]" if ":" in host else host
        return Endpoint(parts._replace(netloc=f"{user}{at}{shown}:{port}").geturl())

    def __str__(self) -> str:
        """Return the safe form, so that no format string shows a password by accident."""
        return self.safe

    def __repr__(self) -> str:
        """Return the safe form."""
        return f"Endpoint({self.safe!r})"


def endpoint_from_url(url: str) -> Endpoint:
    """Check a URL and return its endpoint.

    Raises:
        UsageError: it is not a URL of Redis; the text never repeats what may be a password.
    """
    scheme, separator, rest = url.strip().partition("://")
    known = _SCHEMES.get(scheme.lower())
    if not separator or known is None:
        raise UsageError(_complaint("it does not start with redis://, rediss:// or unix://"))
    endpoint = Endpoint(f"{known}://{rest}")
    problem = _problem(endpoint)
    if problem:
        raise UsageError(_complaint(problem))
    try:
        endpoint.new_connection()
    except (TypeError, ValueError, RedisError):
        # The cause is not chained: its text may quote parts of the URL.
        raise UsageError(_complaint("an option is wrong or does not fit the scheme")) from None
    return endpoint


def endpoint_of_socket(path: Path) -> Endpoint:
    """Return the endpoint of a Unix socket."""
    return Endpoint(f"unix://{quote(str(path))}")


def _tcp_options(silence: float) -> dict[int, int]:
    """Return what has the kernel notice a peer that is gone, as far as it can be told."""
    options = {**_KEEPALIVE, "TCP_USER_TIMEOUT": min(round(silence * 1000), _LONGEST_MS)}
    return {
        getattr(socket, name): value for name, value in options.items() if hasattr(socket, name)
    }


def _complaint(problem: str) -> str:
    return f"this is not the URL of a Redis: {problem}; {_FORMS}"


def _problem(endpoint: Endpoint) -> str | None:
    """Say what is wrong with the URL's form: redis-py ignores most of it silently."""
    try:
        parts = urlsplit(endpoint.url)
        parsed = _arguments(endpoint.url)
        # Asking for the port is what checks it.
        _ = parts.port
    except ValueError:
        return "its host, its port or one of its options makes no sense"
    if parts.fragment:
        return "it contains '#'"
    if parts.scheme == "unix":
        if not parsed.get("path"):
            return "it names no socket path"
    elif not re.fullmatch("([0-9]{1,9})?", parts.path.strip("/")):
        return "what follows the host is not a database number"
    if parts.port == 0:
        return "its port is 0"
    return _unknown_option(parsed) or _wrong_number(parsed)


def _wrong_number(parsed: dict[str, Any]) -> str | None:
    if not 0 <= parsed.get("db", 0) <= MOST_DATABASE:
        return f"db must be a database number, from 0 to {MOST_DATABASE}"
    for name in ("socket_timeout", "socket_connect_timeout"):
        try:
            waiting_seconds(name, float(parsed.get(name, 1)), least=SHORTEST_TIMEOUT)
        except ValueError:
            return f"{name} must be seconds from {SHORTEST_TIMEOUT:g} to {LONGEST_WAIT:.0f}"
    return None


def _unknown_option(parsed: dict[str, Any]) -> str | None:
    known = _OPTIONS | {"connection_class", "host", "port", "path"}
    unknown = [name for name in parsed if name not in known and not name.startswith("ssl_")]
    # Names only: a value, or a name that is really a piece of a password, is never repeated.
    if unknown:
        options = ", ".join(sorted(_OPTIONS))
        return f"it has an option that is not one of {options} or ssl_…"
    return None


def _arguments(url: str) -> dict[str, Any]:
    arguments: dict[str, Any] = dict(parse_url(url))
    return arguments
