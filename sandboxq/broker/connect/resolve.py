"""Finds out which Redis is meant: a URL, the environment, or the embedded server.

URLs in the forms of other clients are accepted: ioredis reads each parameter of the query as one of
its options, Railway and other hosts add ``?family=0``, Celery writes ``redis+socket://`` and
``ssl_cert_reqs=CERT_NONE``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from sandboxq.broker.connect.endpoint import (
    ClusterEndpoint,
    Endpoint,
    SentinelEndpoint,
    endpoint_from_url,
    endpoint_of_socket,
    many_hosts_from_url,
    names_many_hosts,
)
from sandboxq.errors import BrokerUnavailable, UsageError
from sandboxq.model.job_limits import is_redis_withheld

if TYPE_CHECKING:
    from sandboxq.broker.embedded.server import EmbeddedUse

# The environment variables that name a server, the first that is set wins.
ENVIRONMENT = ("SANDBOXQ_URL", "REDIS_URL")

_log = logging.getLogger("sandboxq.broker")

AnyEndpoint = Endpoint | SentinelEndpoint | ClusterEndpoint

_SCHEMES = {"redis+socket": "unix", "redis-socket": "unix", "valkey+socket": "unix"}
_QUOTES = "\"'"
# Options of other clients that change neither which server is meant nor how it is reached.
# ``family`` is one: here every address of a name is tried.
_OF_OTHER_CLIENTS = frozenset(
    {
        "allowUsernameInURI",
        "autoResubscribe",
        "client_name",
        "connectionName",
        "decode_responses",
        "enableOfflineQueue",
        "enableReadyCheck",
        "encoding",
        "family",
        "health_check_interval",
        "keepAlive",
        "lazyConnect",
        "max_connections",
        "maxRetriesPerRequest",
        "noDelay",
        "protocol",
        "retry_on_timeout",
        "showFriendlyErrorStack",
    }
)
# ioredis counts milliseconds, redis-py seconds.
_MILLISECONDS = {"connectTimeout": "socket_connect_timeout", "commandTimeout": "socket_timeout"}


def any_endpoint_from_url(url: str) -> AnyEndpoint:
    """Check the URL of one server, of a cluster or of Sentinels, and return its endpoint.

    Raises: UsageError when it makes no sense; the text never repeats what may be a password.
    """
    given: object = url
    if not isinstance(given, str):
        message = f"url must be text such as 'redis://localhost:6379', not {type(given).__name__}"
        raise UsageError(message)
    url = plain_url(url)
    return many_hosts_from_url(url) if names_many_hosts(url) else endpoint_from_url(url)


async def resolve_endpoint(
    url: str | None, *, directory: Path | None = None
) -> tuple[AnyEndpoint, EmbeddedUse | None]:
    """Return the endpoint of ``url``, else of the environment, else of the embedded server.

    ``directory`` is the embedded server's own directory, ``./.sandboxq`` by default. The server is
    started when needed; the caller owns the use that is returned and releases it.

    Raises:
        UsageError: the URL makes no sense, or this is a job, from which the URL is withheld.
        BrokerUnavailable: the embedded server cannot be started.
    """
    if url:
        return any_endpoint_from_url(url), None
    for name in ENVIRONMENT:
        value = os.environ.get(name)
        if value is not None and value.strip():
            return _endpoint_from_variable(name, value), None
        if value is not None:
            _log.warning("$%s is set, but empty: it names no Redis", name)
    if directory is None:
        _refuse_in_jobs()
    use = await _use_embedded(directory)
    if use.was_started and directory is None:
        _announce(use.directory)
    return endpoint_of_socket(use.socket), use


def _refuse_in_jobs() -> None:
    """Raise UsageError in a job: the embedded server of its directory would be another Redis."""
    if is_redis_withheld():
        message = (
            "which Redis? A job is not given the URL of its worker's Redis: write "
            "job.queue(name).add(…) to add jobs through the worker, pass url=…, or let the "
            "variable that holds it through with `run --environment REDIS_URL` "
            "(docs/how-to/jobs-that-add-jobs.md)"
        )
        raise UsageError(message)


def _announce(directory: Path) -> None:
    """Log that a new server was started."""
    _log.info("no Redis was named: started the embedded server in %s", directory)
    others = [folder / directory.name for folder in directory.parent.parents]
    for other in filter(_is_running, others):
        _log.warning(
            "another embedded server runs in %s; this one in %s has queues of its own. Work in "
            "the other's directory, or name one Redis for both with $SANDBOXQ_URL",
            other,
            directory,
        )


def _is_running(directory: Path) -> bool:
    from sandboxq.broker.embedded.server import server_status  # noqa: PLC0415 - as below

    return directory.is_dir() and server_status(directory).running


def _endpoint_from_variable(name: str, value: str) -> AnyEndpoint:
    try:
        return any_endpoint_from_url(value)
    except UsageError as error:
        message = f"${name}: {error}"
        raise UsageError(message) from None


async def _use_embedded(directory: Path | None) -> EmbeddedUse:
    try:
        # Late, because Windows has no fcntl, and a URL needs none of this.
        from sandboxq.broker.embedded.server import DIRECTORY, use_server  # noqa: PLC0415
    except ImportError as error:
        message = "the embedded server needs Linux or macOS; name a Redis with --url redis://…"
        raise BrokerUnavailable(message) from error
    abandoned = threading.Event()
    started: list[EmbeddedUse] = []

    def start() -> None:
        started.append(use_server(directory or Path.cwd() / DIRECTORY))
        if abandoned.is_set():
            _release(started)

    try:
        await asyncio.to_thread(start)
    except asyncio.CancelledError:
        # The thread goes on; the use that it returns must be released.
        abandoned.set()
        _release(started)
        raise
    return started.pop()


def _release(started: list[EmbeddedUse]) -> None:
    """Release the use if there is one. Both sides may call this: ``pop`` lets one of them do it."""
    with contextlib.suppress(IndexError):
        started.pop().release()


def plain_url(url: str) -> str:
    """Return the URL in redis-py's form, without quotation marks and options of other clients.

    Raises: UsageError for an option with which no queue would be found.
    """
    text = url.strip()
    if text[:1] in _QUOTES and text[:1] == text[-1:]:
        text = text[1:-1].strip()  # an env file or a compose file kept them
    scheme, separator, rest = text.partition("://")
    known = _SCHEMES.get(scheme.lower(), scheme)
    place, question, query = rest.partition("?")
    if not question:
        return f"{known}{separator}{rest}"
    options = [
        plain
        for name, value in parse_qsl(query, keep_blank_values=True)
        if (plain := _plain_option(name, value)) is not None
    ]
    return f"{known}{separator}{place}" + (f"?{urlencode(options)}" if options else "")


def _plain_option(name: str, value: str) -> tuple[str, str] | None:
    if name in _OF_OTHER_CLIENTS:
        return None
    if name == "keyPrefix":
        message = (
            "keyPrefix in the URL of a Redis: BullMQ cannot use it, and neither can sandboxq; "
            "give the prefix of the queues instead (--prefix, prefix=…)"
        )
        raise UsageError(message)
    if name in _MILLISECONDS and value.isdecimal():
        return _MILLISECONDS[name], f"{int(value) / 1000:g}"
    if name == "ssl_cert_reqs":
        return name, value.lower().removeprefix("cert_")
    return name, value
