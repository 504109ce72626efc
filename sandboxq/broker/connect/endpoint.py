"""Where Redis is: a URL, checked, and shown without its password.

Some URLs name several hosts: the nodes of a cluster, or the Sentinels that know a master.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from redis.exceptions import RedisError

from sandboxq.broker.connect.plain_connection import PlainConnection, TlsConnection, arguments_of
from sandboxq.errors import UsageError
from sandboxq.model.validation import LONGEST_WAIT, waiting_seconds

if TYPE_CHECKING:
    from pathlib import Path

# Seconds for the TCP or TLS connection and its greeting; socket_connect_timeout in the URL wins.
CONNECT_TIMEOUT = 5.0
# Seconds of silence while an answer is due, unless the URL says socket_timeout: below the default
# lock duration, so that a network which swallows packets is noticed before locks expire.
ANSWER_TIMEOUT = 10.0
# TCP keep-alive (man 7 tcp): seconds until the first probe, between probes, and how many may fail.
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
NODE_PORT = 6379
SENTINEL_PORT = 26379
# redis+cluster and redis+sentinel are what Python writes, redis-sentinel is Java's and Node's way.
_SCHEME = re.compile(r"(redis|rediss|valkey|valkeys)[+-](cluster|sentinel)", re.IGNORECASE)
_SERVER_SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
_MANY_HOSTS_FORMS = {
    "cluster": "write redis+cluster://[user:password@]host[:port][,host[:port]…], "
    "rediss+cluster://… for TLS",
    "sentinel": "write redis+sentinel://[user:password@]host[:port][,host[:port]…]/master-name"
    "[/database][?sentinel_password=…], rediss+sentinel://… for TLS; user and password are those "
    "of the data nodes, sentinel_username and sentinel_password those of the Sentinels",
}
_PERCENT = "percent-encode special characters of a password"
_SENTINEL_OPTION = "sentinel_"
_OF_DATA_NODES = frozenset({"db", "username", "password"})


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
        return float(arguments_of(self.url).get("socket_connect_timeout", CONNECT_TIMEOUT))

    @property
    def answer_timeout(self) -> float:
        """Seconds of silence until an answer that does not block on purpose."""
        return float(arguments_of(self.url).get("socket_timeout", ANSWER_TIMEOUT))

    @property
    def is_remote(self) -> bool:
        """Whether there may be a network between: a connection may then die on one side only."""
        return not self.url.startswith("unix:")

    def new_connection(self, client_name: str | None = None) -> PlainConnection | TlsConnection:
        """Return a connection that was not made yet. Time limits are those of Connection."""
        arguments = arguments_of(self.url)
        for limit in ("socket_timeout", "socket_connect_timeout"):
            arguments.pop(limit, None)
        if self.is_remote:
            arguments["socket_keepalive_options"] = _tcp_options(self.answer_timeout)
        kind = TlsConnection if self.url.startswith("rediss:") else PlainConnection
        return kind(**arguments, client_name=client_name)

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
    """Return the socket options by which the kernel notices a lost peer, where it has them."""
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
        parsed = arguments_of(endpoint.url)
        # Asking for the port is what checks it.
        _ = parts.port
    except ValueError:
        return "its host, its port or one of its options is not valid"
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
    known = _OPTIONS | {"host", "port", "path"}
    unknown = [name for name in parsed if name not in known and not name.startswith("ssl_")]
    # Names only: a value, or a name that is really a piece of a password, is never repeated.
    if unknown:
        options = ", ".join(sorted(_OPTIONS))
        return f"it has an option that is not one of {options} or ssl_…"
    return None


@dataclass(frozen=True, slots=True)
class ClusterEndpoint:
    """A Redis Cluster, by some of its nodes."""

    seeds: tuple[Endpoint, ...]
    safe: str
    url: str = field(repr=False)

    @property
    def connect_timeout(self) -> float:
        """Seconds for a connection to come up."""
        return self.seeds[0].connect_timeout

    @property
    def answer_timeout(self) -> float:
        """Seconds to wait for an answer that does not block on purpose."""
        return self.seeds[0].answer_timeout

    def __str__(self) -> str:
        """Return the safe form."""
        return self.safe


@dataclass(frozen=True, slots=True)
class SentinelEndpoint:
    """The master of a name, by the Sentinels that know where it is.

    ``data_node`` has the credentials and options of the master, with a placeholder address.
    """

    sentinels: tuple[Endpoint, ...]
    master_name: str
    data_node: Endpoint
    safe: str
    url: str = field(repr=False)

    @property
    def connect_timeout(self) -> float:
        """Seconds for a connection to come up."""
        return self.data_node.connect_timeout

    @property
    def answer_timeout(self) -> float:
        """Seconds to wait for an answer that does not block on purpose."""
        return self.data_node.answer_timeout

    def __str__(self) -> str:
        """Return the safe form."""
        return self.safe


@dataclass(frozen=True, slots=True)
class _Parts:
    """A URL taken apart; standard parsers know one host only."""

    scheme: str
    kind: str
    user: str = field(repr=False)
    hosts: tuple[str, ...]
    path: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = field(repr=False)
    url: str = field(repr=False)

    @property
    def safe(self) -> str:
        name = self.user.partition(":")[0]
        path = "".join(f"/{part}" for part in self.path)
        hosts = ",".join(self.hosts)
        return f"{self.scheme}+{self.kind}://{name}{'@' if name else ''}{hosts}{path}"


def names_many_hosts(url: str) -> bool:
    """Whether the URL is one of a cluster or of Sentinels."""
    return _SCHEME.fullmatch(url.strip().partition("://")[0]) is not None


def many_hosts_from_url(url: str) -> ClusterEndpoint | SentinelEndpoint:
    """Check the URL of a cluster or of Sentinels and return its endpoint.

    Raises: UsageError when it makes no sense; the text never repeats what may be a password.
    """
    parts = _parts_from_url(url.strip())
    try:
        return _cluster(parts) if parts.kind == "cluster" else _sentinel(parts)
    except UsageError as error:
        _refuse(parts.kind, str(error).partition(": ")[2].partition("; write ")[0] or str(error))


def _parts_from_url(url: str) -> _Parts:
    scheme, _, rest = url.partition("://")
    match = _SCHEME.fullmatch(scheme)
    if match is None:
        _refuse("cluster", "it does not start with redis+cluster:// or redis+sentinel://")
    kind = match[2].lower()
    if "#" in rest:
        _refuse(kind, "it contains '#'")
    before, _, query = rest.partition("?")
    netloc, _, path = before.partition("/")
    user, _, hosts = netloc.rpartition("@")
    return _Parts(
        _SERVER_SCHEMES[match[1].lower()],
        kind,
        user,
        tuple(hosts.split(",")),
        tuple(part for part in path.split("/") if part),
        tuple(parse_qsl(query, keep_blank_values=True)),
        url,
    )


def _cluster(parts: _Parts) -> ClusterEndpoint:
    if parts.path not in {(), ("0",)} or any(name == "db" for name, _ in parts.options):
        _refuse(parts.kind, "a cluster has database 0 only")
    return ClusterEndpoint(
        tuple(_server(parts, host, parts.user, NODE_PORT) for host in parts.hosts),
        parts.safe,
        parts.url,
    )


def _sentinel(parts: _Parts) -> SentinelEndpoint:
    if not 1 <= len(parts.path) <= 2:  # noqa: PLR2004 - the master's name, perhaps a database
        _refuse(parts.kind, "it does not name the master as the Sentinels know it")
    own = {name: value for name, value in parts.options if name.startswith(_SENTINEL_OPTION)}
    user = quote(own.pop("sentinel_username", ""), safe="")
    password = quote(own.pop("sentinel_password", ""), safe="")
    if own:
        _refuse(
            parts.kind, "it may have sentinel_username and sentinel_password, no other sentinel_…"
        )
    login = f"{user}:{password}" if user or password else ""
    return SentinelEndpoint(
        tuple(_server(parts, host, login, SENTINEL_PORT) for host in parts.hosts),
        unquote(parts.path[0]),
        _server(parts, "master.invalid", parts.user, NODE_PORT, database="/".join(parts.path[1:])),
        parts.safe,
        parts.url,
    )


def _server(parts: _Parts, host: str, user: str, port: int, *, database: str = "") -> Endpoint:
    """Return the endpoint of one host. Sentinels have no databases, and users of their own."""
    if not host:
        _refuse(parts.kind, "one of its hosts is empty")
    has_port = re.search(r":\d*$", host.rpartition("]")[2]) is not None
    address = host if has_port else f"{host}:{port}"
    is_sentinel = port == SENTINEL_PORT
    options = [
        (name, value)
        for name, value in parts.options
        if not name.startswith(_SENTINEL_OPTION) and not (is_sentinel and name in _OF_DATA_NODES)
    ]
    query = f"?{urlencode(options)}" if options else ""
    login = f"{user}@" if user else ""
    path = f"/{database}" if database else ""
    return endpoint_from_url(f"{parts.scheme}://{login}{address}{path}{query}")


def _refuse(kind: str, problem: str) -> NoReturn:
    what = "a Redis Cluster" if kind == "cluster" else "Redis Sentinels"
    message = f"this is not the URL of {what}: {problem}; {_MANY_HOSTS_FORMS[kind]}; {_PERCENT}"
    raise UsageError(message) from None
