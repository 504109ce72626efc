"""Who asks, and what they may: roles, credentials, trusted proxies, requests from other sites.

    request ──► is it from this machine, or whose credentials? ──► Visitor(role, name)
            ──► does it change something? from this very page, and by one who operates

Everything that decides is here and does nothing else; guard.py answers by it.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import inspect
import ipaddress
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from starlette.requests import Request

if TYPE_CHECKING:
    from starlette.types import Scope

    from sandboxq.web.settings import Settings

_log = logging.getLogger("sandboxq.web")

SAFE_METHODS = frozenset({"GET", "HEAD"})
# What a form of another site can send without asking first.
_FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
# Headers that a proxy adds: with one of them the address of the client is not the visitor's.
_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_MOST_NAME = 100
_MOST_PREFIX = 200


class Role(enum.StrEnum):
    """What somebody may do."""

    NONE = "none"
    READ = "read"
    OPERATE = "operate"


class Visitor(NamedTuple):
    """Who asks: the role, and the name for the audit log."""

    role: Role
    name: str

    @property
    def can_read(self) -> bool:
        """Whether pages are shown."""
        return self.role is not Role.NONE

    @property
    def can_operate(self) -> bool:
        """Whether something may be changed."""
        return self.role is Role.OPERATE


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: HTTPStatus
    message: str
    has_challenge: bool = False


NOBODY = Visitor(Role.NONE, "")
_NOT_HERE = (
    "this page answers only this machine, because it has no credentials: set "
    "SANDBOXQ_WEB_USER and SANDBOXQ_WEB_PASSWORD, or SANDBOXQ_WEB_TOKEN, or give authorize="
)


class Access:
    """Decides for each request."""

    def __init__(self, settings: Settings) -> None:
        """Follow these settings."""
        self._settings = settings

    async def visitor(self, scope: Scope) -> Visitor | Refusal:
        """Return who asks, with the role that they have here, or why they are refused."""
        request = Request(scope)
        settings = self._settings
        if settings.authorize is not None:
            found = await self._authorized(request)
        elif settings.is_open:
            if not is_of_this_machine(request):
                return Refusal(HTTPStatus.FORBIDDEN, _NOT_HERE)
            found = Visitor(Role.OPERATE, "local")
        else:
            found = self._identified(request)
        if not found.can_read:
            return self._unknown()
        if settings.is_read_only:
            return Visitor(Role.READ, found.name)
        return found

    def _unknown(self) -> Refusal:
        if self._settings.authorize is not None:
            return Refusal(HTTPStatus.FORBIDDEN, "you may not see this page")
        has_challenge = self._settings.login is not None
        return Refusal(
            HTTPStatus.UNAUTHORIZED, "who are you? credentials are needed", has_challenge
        )

    async def _authorized(self, request: Request) -> Visitor:
        """Ask the application; what is no role, or fails, is none."""
        try:
            answer = self._settings.authorize(request)  # type: ignore[misc]  # there is one
            if inspect.isawaitable(answer):
                answer = await answer
            role, name = (answer, "") if isinstance(answer, str) else answer
            return Visitor(Role(role), str(name)[:_MOST_NAME] or "authorized")
        except Exception:  # noqa: BLE001 - what fails lets nobody in
            _log.exception("authorize() of the page failed, so nothing was shown")
            return NOBODY

    def _identified(self, request: Request) -> Visitor:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        match scheme.lower():
            case "bearer":
                if is_same(credentials.strip(), self._settings.token):
                    return Visitor(Role.OPERATE, "token")
            case "basic":
                return self._logged_in(credentials.strip())
        return self._let_in_by_proxy(request)

    def _logged_in(self, credentials: str) -> Visitor:
        try:
            text = base64.b64decode(credentials, validate=True).decode()
        except (binascii.Error, ValueError):
            return NOBODY
        user, _, password = text.partition(":")
        wanted_user, wanted_password = self._settings.login or (None, None)
        # Both are compared, so that the time tells nothing of either.
        is_right = is_same(user, wanted_user) & is_same(password, wanted_password)
        return Visitor(Role.OPERATE, user[:_MOST_NAME]) if is_right else NOBODY

    def _let_in_by_proxy(self, request: Request) -> Visitor:
        header = self._settings.user_header
        if header is None or not self.is_of_proxy(request.scope):
            return NOBODY
        # A proxy that adds its own to that of a stranger lets nobody in.
        names = [name for name in map(str.strip, request.headers.getlist(header)) if name]
        return Visitor(Role.OPERATE, names[0][:_MOST_NAME]) if len(names) == 1 else NOBODY

    def is_of_proxy(self, scope: Scope) -> bool:
        """Tell whether a proxy that is listed has sent this."""
        address = _address(scope)
        return address is not None and any(address in each for each in self._settings.proxies)

    def prefix_of(self, scope: Scope) -> str:
        """Return the prefix under which a listed proxy serves the page, '' when it names none."""
        prefix = Request(scope).headers.get("x-forwarded-prefix", "").rstrip("/")
        is_path = prefix.startswith("/") and not prefix.startswith("//")
        is_plain = prefix.isascii() and prefix.isprintable() and len(prefix) <= _MOST_PREFIX
        if not (is_path and is_plain) or set(prefix) & set("\\<>\"'?#% ") or ".." in prefix:
            return ""
        return prefix if self.is_of_proxy(scope) else ""

    def refusal_of_change(self, scope: Scope, visitor: Visitor) -> Refusal | None:
        """Return why this visitor may not change anything by this request, None: they may."""
        if not is_same_site(Request(scope), is_behind_proxy=self.is_of_proxy(scope)):
            return Refusal(HTTPStatus.FORBIDDEN, "the request came from another site")
        if not visitor.can_operate:
            return Refusal(HTTPStatus.FORBIDDEN, "you may look, and change nothing")
        return None


def is_same(given: str, wanted: str | None) -> bool:
    """Compare a secret; the time depends neither on what is wrong nor on its length."""
    digests = [
        hashlib.sha256(each.encode(errors="replace")).digest() for each in (given, wanted or "")
    ]
    return hmac.compare_digest(*digests) and wanted is not None


def is_of_this_machine(request: Request) -> bool:
    """Tell whether a browser or program of this machine asks for this very page.

    A page of another site may have its own name point to 127.0.0.1: the Host header tells. A proxy
    on this machine asks for anybody.
    """
    address = _address(request.scope)
    if address is None or not address.is_loopback:
        return False
    if request.scope.get("http_version") == "1.0":
        return False  # what proxies speak, and browsers do not
    if any(name in request.headers for name in _PROXY_HEADERS):
        return False
    return is_loopback_host(request.headers.get("host", ""))


def is_loopback_host(host: str) -> bool:
    """Tell whether a Host header names this machine's own loopback."""
    if set(host) & set("@/\\?#"):
        return False  # no browser's
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _address(scope: Scope) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    host, *_ = scope.get("client") or ("",)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def is_same_site(request: Request, *, is_behind_proxy: bool = False) -> bool:
    """Tell whether a request that changes something comes from this page, or from no browser.

    Browsers say by Sec-Fetch-Site where a request comes from, older ones by Origin.
    """
    sites = request.headers.getlist("sec-fetch-site")
    if sites:
        return set(sites) == {"same-origin"}
    origins = request.headers.getlist("origin")
    if len(origins) > 1:
        return False
    for origin in origins:
        host = request.headers.get("host", "")
        if is_behind_proxy:
            host = request.headers.get("x-forwarded-host", host)
        return bool(host) and origin.lower() in {
            f"http://{host.lower()}",
            f"https://{host.lower()}",
        }
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind not in _FORM_TYPES
