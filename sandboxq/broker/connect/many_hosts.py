"""URLs that name several hosts: the nodes of a cluster, or the Sentinels that know a master."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import parse_qsl, quote, unquote, urlencode

from sandboxq.broker.connect.endpoint import Endpoint, endpoint_from_url
from sandboxq.errors import UsageError

NODE_PORT = 6379
SENTINEL_PORT = 26379

# redis+cluster and redis+sentinel are what Python writes, redis-sentinel is Java's and Node's way.
_SCHEME = re.compile(r"(redis|rediss|valkey|valkeys)[+-](cluster|sentinel)", re.IGNORECASE)
_SERVER_SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
_FORMS = {
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

    ``data_node`` has the credentials and options of the master, at an address that is none.
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
        _refuse(parts.kind, "of sentinel_… it may have sentinel_username and sentinel_password")
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
    message = f"this is not the URL of {what}: {problem}; {_FORMS[kind]}; {_PERCENT}"
    raise UsageError(message) from None
