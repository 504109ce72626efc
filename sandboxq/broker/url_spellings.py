"""URLs of Redis as other clients spell them, in the form that redis-py knows.

Facts: ioredis reads each parameter of the query as one of its options; Railway and other hosts give
out ``?family=0``; Celery writes ``redis+socket://`` and ``ssl_cert_reqs=CERT_NONE``.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

from sandboxq.errors import UsageError

_SCHEMES = {"redis+socket": "unix", "redis-socket": "unix", "valkey+socket": "unix"}
_QUOTES = "\"'"
# Options that change how another client works, and nothing of which server is meant or how it is
# reached. ``family`` is among them: every address of a name is tried here.
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


def plain_url(url: str) -> str:
    """Return the URL without quotation marks and options of other clients, in redis-py's words.

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
