"""The settings of a page: what it shows, who may see it, what it hides."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from sandboxq.broker.keys import DEFAULT_PREFIX, QueueKeys, chosen_prefix
from sandboxq.errors import UsageError
from sandboxq.model.validation import shown
from sandboxq.web.redact import Redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

USER_VARIABLE, PASSWORD_VARIABLE = "SANDBOXQ_WEB_USER", "SANDBOXQ_WEB_PASSWORD"
TOKEN_VARIABLE = "SANDBOXQ_WEB_TOKEN"  # noqa: S105 - a name
# A password that is guessed by trying must take longer than anybody tries.
LEAST_SECRET = 8


class DashboardOptions(TypedDict, total=False):
    """The keyword arguments of ``dashboard``.

    prefix: what all keys start with ($SANDBOXQ_PREFIX, else ``bull``).
    queues: names to show; left out, all that the prefix has.
    read_only: nobody changes anything.
    authorize: called with each request (Starlette's), may be ``async def``; returns ``"none"``,
        ``"read"`` or ``"operate"``, or such a role and a name for the audit log. Nothing else is
        asked then.
    user, password: for HTTP basic authentication; $SANDBOXQ_WEB_USER and $SANDBOXQ_WEB_PASSWORD.
    token: for ``Authorization: Bearer …``; $SANDBOXQ_WEB_TOKEN.
    trusted_proxies: addresses or networks whose X-Forwarded-Prefix and ``user_header`` are true.
    user_header: the header in which those proxies name the user whom they have let in.
    redact: more words; where the key of a value has one, the value is hidden.
    """

    prefix: str
    queues: Iterable[str]
    read_only: bool
    authorize: Callable[[Any], Any]
    user: str
    password: str
    token: str
    trusted_proxies: Iterable[str]
    user_header: str
    redact: Iterable[str]


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked options of one page."""

    url: str | None = None
    prefix: str = DEFAULT_PREFIX
    queues: tuple[str, ...] = ()
    is_read_only: bool = False
    authorize: Callable[[Any], Any] | None = None
    login: tuple[str, str] | None = None
    token: str | None = None
    proxies: tuple[Network, ...] = ()
    user_header: str | None = None
    redaction: Redaction = field(default_factory=Redaction)

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who they are: then only this machine is answered."""
        return not (self.authorize or self.login or self.token or self.user_header)


def settings_from_options(url: str | None, options: Mapping[str, Any]) -> Settings:
    """Return checked settings; credentials that are left out come from the environment.

    Raises: UsageError.
    """
    unknown = options.keys() - DashboardOptions.__annotations__.keys()
    if unknown:
        message = f"dashboard() has no option {min(unknown)!r}"
        raise UsageError(message)
    prefix = chosen_prefix(options.get("prefix"))
    queues = tuple(QueueKeys(name, prefix).queue for name in _texts(options, "queues"))
    QueueKeys("x", prefix)
    return Settings(
        url=url,
        prefix=prefix,
        queues=queues,
        is_read_only=bool(options.get("read_only", False)),
        authorize=_authorize(options),
        login=_login(options),
        token=_secret(options, "token", TOKEN_VARIABLE),
        proxies=tuple(map(_network, _texts(options, "trusted_proxies"))),
        user_header=_user_header(options),
        redaction=Redaction(_texts(options, "redact")),
    )


def _texts(options: Mapping[str, Any], name: str) -> tuple[str, ...]:
    given = options.get(name, ())
    values = (given,) if isinstance(given, str) else tuple(given)
    for value in values:
        if not isinstance(value, str) or not value:
            message = f"{name} must be texts, not {shown(value)}"
            raise UsageError(message)
    return values


def _authorize(options: Mapping[str, Any]) -> Callable[[Any], Any] | None:
    authorize = options.get("authorize")
    if authorize is not None and not callable(authorize):
        message = f"authorize must be a function of the request, not {shown(authorize)}"
        raise UsageError(message)
    return authorize


def _secret(options: Mapping[str, Any], name: str, variable: str) -> str | None:
    """Return a password or token; its text is never part of an error."""
    secret = options.get(name) or os.environ.get(variable) or None
    if secret is None:
        return None
    if not isinstance(secret, str) or len(secret) < LEAST_SECRET:
        message = f"{name} (${variable}) must be a text of at least {LEAST_SECRET} characters"
        raise UsageError(message)
    return secret


def _login(options: Mapping[str, Any]) -> tuple[str, str] | None:
    user = options.get("user") or os.environ.get(USER_VARIABLE) or None
    password = _secret(options, "password", PASSWORD_VARIABLE)
    if (user is None) != (password is None):
        message = f"user and password (${USER_VARIABLE}, ${PASSWORD_VARIABLE}) go together"
        raise UsageError(message)
    if user is None or password is None:
        return None
    if not isinstance(user, str) or ":" in user:
        message = "user must be a text without ':'"
        raise UsageError(message)
    return user, password


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        message = f"trusted_proxies are addresses or networks, such as 10.0.0.0/8, not {text!r}"
        raise UsageError(message) from error


def _user_header(options: Mapping[str, Any]) -> str | None:
    name = options.get("user_header")
    if name is None:
        return None
    if not isinstance(name, str) or not name.replace("-", "").isalnum() or not name.isascii():
        message = f"user_header must be the name of a header, not {shown(name)}"
        raise UsageError(message)
    if not options.get("trusted_proxies"):
        message = "user_header needs trusted_proxies: anybody else could send the header too"
        raise UsageError(message)
    return name.lower()
