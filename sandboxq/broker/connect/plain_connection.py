"""Connects without TLS, and greets: for that alone redis-py would be imported as a whole.

Its clients, commands and observability take 0.2 s and 10 MB. Of it only the exceptions are needed
here, which stand in a module of their own; where somebody else uses redis-py, its package comes to
life as it is first asked for something (``hold_package``).

    connect ──► AUTH, CLIENT SETNAME, CLIENT SETINFO, SELECT in one message ──► their replies
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from sandboxq.broker.connect.resp import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from redis.exceptions import RedisError

_END = b"\r\n"
_WHO_WE_ARE = ("CLIENT", "SETINFO", "LIB-NAME", "sandboxq")
_PACKAGE = "redis"


def hold_package() -> None:
    """Let modules of redis-py be imported before the package itself is, which costs most.

    The package runs when somebody asks it for anything that is not there yet.
    """
    if _PACKAGE in sys.modules:
        return
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.loader is None:  # the import says what is missing
        return
    package, loader, lock = importlib.util.module_from_spec(spec), spec.loader, threading.RLock()
    namespace = vars(package)

    def look_up(name: str) -> Any:
        with lock:
            if namespace.pop("__getattr__", None) is not None:
                loader.exec_module(package)
        try:
            return namespace[name]
        except KeyError:
            message = f"module {_PACKAGE!r} has no attribute {name!r}"
            raise AttributeError(message) from None

    namespace["__getattr__"] = look_up
    sys.modules[_PACKAGE] = package


def error_from_text(text: str) -> RedisError:
    """Return the error for what Redis says behind the minus sign, as redis-py names it."""
    kind, _, rest = text.partition(" ")
    errors = _errors()
    if kind == "ERR":
        named = errors.get(rest, errors["ERR"])
        return named(rest, status_code=kind)
    return errors[kind](rest, status_code=kind) if kind in errors else errors["ERR"](text)


def _errors() -> Mapping[str, Callable[..., RedisError]]:
    if not _known:
        from redis import exceptions as e  # noqa: PLC0415 - after ``hold_package``

        nothing_to_check = (
            "AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?"
        )
        wrong_number = e.AuthenticationWrongNumberOfArgsError
        _known.update(
            {
                "ERR": e.ResponseError,
                **dict.fromkeys(("OOM",), e.OutOfMemoryError),
                **dict.fromkeys(("WRONGPASS", "NOAUTH", "invalid password"), e.AuthenticationError),
                nothing_to_check: e.AuthenticationError,
                "Client sent AUTH, but no password is set": e.AuthenticationError,
                "wrong number of arguments for 'auth' command": wrong_number,
                "wrong number of arguments for 'AUTH' command": wrong_number,
                "max number of clients reached": e.ConnectionError,
                "EXECABORT": e.ExecAbortError,
                "LOADING": e.BusyLoadingError,
                "NOSCRIPT": e.NoScriptError,
                "READONLY": e.ReadOnlyError,
                "NOPERM": e.NoPermissionError,
                "ASK": e.AskError,
                "TRYAGAIN": e.TryAgainError,
                "MOVED": e.MovedError,
                "CLUSTERDOWN": e.ClusterDownError,
                "CROSSSLOT": e.ClusterCrossSlotError,
                "MASTERDOWN": e.MasterDownError,
            }
        )
    return _known


_known: dict[str, Callable[..., RedisError]] = {}


def arguments_of(url: str) -> dict[str, Any]:
    """Return what a URL says, by redis-py's names. Raises: ValueError."""
    parts = urlsplit(url)
    arguments: dict[str, Any] = dict(reversed(parse_qsl(parts.query)))
    if parts.scheme == "rediss":
        arguments = _tls_options(url)
    else:
        for name in arguments.keys() & _READERS.keys():
            arguments[name] = _READERS[name](arguments[name])
    named = {"username": parts.username, "password": parts.password}
    if parts.scheme == "unix":
        named["path"] = parts.path
    else:
        named["host"] = parts.hostname
        arguments |= {"port": parts.port} if parts.port else {}
        path = unquote(parts.path).replace("/", "")
        if path.isdecimal():
            arguments.setdefault("db", int(path))
    return arguments | {name: unquote(text) for name, text in named.items() if text}


def _tls_options(url: str) -> dict[str, Any]:
    from redis.asyncio.connection import parse_url  # noqa: PLC0415 - seldom: takes 0.2 s

    arguments: dict[str, Any] = dict(parse_url(url))
    del arguments["connection_class"]
    return arguments


def _is_true(text: str) -> bool:
    return text.upper() not in ("", "0", "F", "FALSE", "N", "NO")


_READERS: dict[str, Callable[[str], Any]] = {
    "db": int,
    "socket_timeout": float,
    "socket_connect_timeout": float,
    "socket_keepalive": _is_true,
}


class PlainConnection:
    """A connection over TCP or, with a ``path``, a Unix socket."""

    def __init__(  # noqa: PLR0913 - what a URL says, by redis-py's names
        self,
        *,
        host: str = "localhost",
        port: int = 6379,
        path: str = "",
        db: int = 0,
        username: str | None = None,
        password: str | None = None,
        client_name: str | None = None,
        socket_keepalive: bool | None = True,
        socket_keepalive_options: Mapping[int, int] | None = None,
    ) -> None:
        """Prepare a connection."""
        self.host = host
        self.port = port
        self.path = path
        self.db = db
        self.username = username
        self.password = password
        self.client_name = client_name
        self.socket_keepalive = socket_keepalive
        self.socket_keepalive_options = socket_keepalive_options or {}
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def connect(self) -> None:
        """Connect, authenticate, tell the name, select the database.

        Raises: RedisError, OSError.
        """
        try:
            if self.path:
                self.reader, self.writer = await asyncio.open_unix_connection(self.path)
            else:
                self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
                self._keep_alive(self.writer.get_extra_info("socket"))
        except TimeoutError:
            raise
        except (OSError, ValueError) as error:  # ValueError: a name that no host can have
            raise self._not_connected(error) from error
        await self._greet()

    def _not_connected(self, error: Exception) -> RedisError:
        """Return it in redis-py's words: ``cli/messages.py`` knows it by them."""
        from redis import exceptions  # noqa: PLC0415 - see _errors

        where = self.path or f"{self.host}:{self.port}"
        number, text = getattr(error, "errno", None), getattr(error, "strerror", None)
        count = f" {number}" if number else ""
        return exceptions.ConnectionError(f"Error{count} connecting to {where}. {text or error}.")

    def _keep_alive(self, connected: socket.socket) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.socket_keepalive:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in self.socket_keepalive_options.items():
                with suppress(OSError):  # a kernel without it
                    connected.setsockopt(socket.IPPROTO_TCP, option, value)

    async def _greet(self) -> None:
        from redis.exceptions import AuthenticationWrongNumberOfArgsError  # noqa: PLC0415 - see _errors

        credentials = [self.username, self.password or ""] if self.username else [self.password]
        try:
            await self._say(credentials if credentials != [None] else [])
        except AuthenticationWrongNumberOfArgsError:  # a server before Redis 6 has no users
            await self._say(credentials[1:])

    async def _say(self, credentials: Sequence[str | None]) -> None:
        commands: list[Sequence[Any]] = [("AUTH", *credentials)] if credentials else []
        if self.client_name:
            commands.append(("CLIENT", "SETNAME", self.client_name))
        if self.db:
            commands.append(("SELECT", self.db))
        # At least one answer shows that somebody is there, before the time for connecting is over.
        commands.append(_WHO_WE_ARE)
        from redis.exceptions import ResponseError  # noqa: PLC0415 - see _errors

        assert self.reader is not None  # noqa: S101 - it is connected
        assert self.writer is not None  # noqa: S101 - as above
        self.writer.write(b"".join(map(pack, commands)))
        replies = [await self._reply(self.reader) for _ in commands]
        if isinstance(replies[-1], ResponseError):  # before Redis 7.2, or a user who may not
            del replies[-1]
        for reply in replies:
            if reply is not None:
                raise reply

    async def _reply(self, reader: asyncio.StreamReader) -> RedisError | None:
        from redis import exceptions  # noqa: PLC0415 - see _errors

        try:
            line = await reader.readuntil(_END)
        except asyncio.IncompleteReadError as error:
            message = "the connection was closed by the server"
            raise exceptions.ConnectionError(message) from error
        except asyncio.LimitOverrunError as error:
            message = "what answers is no Redis"
            raise exceptions.InvalidResponse(message) from error
        text = line[1:-2].decode(errors="replace")
        if line[:1] == b"-":
            return error_from_text(text)
        if line != b"+OK\r\n":
            message = f"what answers is no Redis: {text[:100]!r}"
            raise exceptions.InvalidResponse(message)
        return None

    async def can_read(self) -> bool:
        """Tell whether the server has sent something unasked, or closed."""
        reader: Any = self.reader
        return reader is None or bool(reader._buffer) or reader.at_eof()  # noqa: SLF001 - there is no public way to it

    async def disconnect(self) -> None:
        """Close; twice is harmless."""
        writer = self.forget()
        if writer is not None:
            writer.close()

    def forget(self) -> asyncio.StreamWriter | None:
        """Use the streams no more; return the one that has the socket."""
        writer, self.reader, self.writer = self.writer, None, None
        return writer


class TlsConnection:
    """The same with TLS: redis-py's, with all of its options."""

    def __init__(self, **arguments: Any) -> None:
        """Prepare a connection. Raises: RedisError, TypeError, ValueError for wrong options."""
        from redis.asyncio.connection import SSLConnection  # noqa: PLC0415 - see above

        self._connection: Any = SSLConnection(
            **arguments, socket_timeout=None, socket_connect_timeout=None, protocol=2
        )
        # RESP2, because its replies have the same shapes on every server and version.

    def __getattr__(self, name: str) -> Any:
        """Return what the URL says, by redis-py's names."""
        return getattr(self._connection, name)

    @property
    def writer(self) -> asyncio.StreamWriter | None:
        """The stream that has the socket."""
        writer: asyncio.StreamWriter | None = self._connection._writer  # noqa: SLF001 - there is no public way to it
        return writer

    async def connect(self) -> None:
        """See PlainConnection."""
        await self._connection.connect()

    async def can_read(self) -> bool:
        """See PlainConnection."""
        return bool(await self._connection.can_read())

    async def disconnect(self) -> None:
        """See PlainConnection."""
        await self._connection.disconnect(nowait=True)

    def forget(self) -> asyncio.StreamWriter | None:
        """See PlainConnection."""
        writer = self.writer
        self._connection._reader = self._connection._writer = None  # noqa: SLF001 - as above
        return writer
