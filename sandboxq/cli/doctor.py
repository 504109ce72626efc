"""``python -m sandboxq doctor``: what this machine and this Redis can do, and what is missing."""

from __future__ import annotations

import asyncio
import os
import platform
from pathlib import Path
from typing import Any

import click

from sandboxq import __version__
from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.options import json_option, url_option
from sandboxq.errors import SandboxqError
from sandboxq.sandbox.environment import text_of_withheld, withheld_by_chance
from sandboxq.sandbox.policy import NAMES, Policy
from sandboxq.sandbox.support import mechanisms, missing_for

_URL_VARIABLES = ("SANDBOXQ_URL", "REDIS_URL")


@click.command()
@url_option
@json_option
def command(*, url: str | None, as_json: bool) -> None:
    """Show what this machine and this Redis can do, policy by policy, and what would help."""
    found = {
        "sandboxq": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "mechanisms": [each._asdict() for each in mechanisms()],
        "policies": {name: _missing(name) for name in NAMES},
        "redis": _redis(url),
        "withheld": withheld_by_chance("limits", None, os.environ),
    }
    if as_json:
        echo_json(found)
    else:
        echo("\n".join(_lines(found)))


def _missing(name: str) -> list[str]:
    return [f"{each.name} ({each.detail}): {each.help}" for each in missing_for(Policy(name))]


def _redis(url: str | None) -> dict[str, Any]:
    """Return where Redis is and what it says; the embedded server is not started for this."""
    url = url or next(filter(None, map(os.environ.get, _URL_VARIABLES)), None)
    if url is None:
        return _embedded()
    try:
        return asyncio.run(_asked(url))
    except SandboxqError as error:
        return {"endpoint": "", "ok": False, "detail": str(error)}


def _embedded() -> dict[str, Any]:
    """Return whether there can be one: it writes below the current directory."""
    here = Path.cwd()
    is_fine = os.access(next(each for each in (here / ".sandboxq", here) if each.exists()), os.W_OK)
    reason = f"needs to write in {here}, which user {os.geteuid()} may not: set SANDBOXQ_URL"
    detail = "started when it is needed" if is_fine else reason
    return {"endpoint": "embedded server", "ok": is_fine, "detail": detail}


async def _asked(url: str) -> dict[str, Any]:
    from sandboxq.broker.connect.broker import Broker  # noqa: PLC0415 - `doctor` answers without a client
    from sandboxq.broker.connect.server_info import clock_warning  # noqa: PLC0415 - as below

    broker = await Broker.connect(url)
    try:
        facts = broker.facts
        detail = f"{facts.kind} {facts.version}, eviction {facts.eviction_policy or 'unknown'}"
        if facts.evicts:
            detail += ": jobs may be lost when memory is full, set maxmemory-policy noeviction"
        await broker.now_ms()
        warning = clock_warning(broker.time.lead_ms)
        if warning:
            detail += f"; {warning}"
        is_fine = not facts.evicts and not warning
        return {"endpoint": broker.endpoint.safe, "ok": is_fine, "detail": detail}
    finally:
        await broker.close()


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"sandboxq {found['sandboxq']}, Python {found['python']}, {found['machine']}", ""]
    lines += [
        f"{_mark(is_there=each['is_there'])} {each['name']:<10} {each['detail']}"
        for each in found["mechanisms"]
    ]
    lines.append("")
    for name, missing in found["policies"].items():
        what = "; ".join(missing) or "can be enforced"
        lines.append(f"{_mark(is_there=not missing)} policy {name:<7} {what}")
    redis = found["redis"]
    text = " ".join(filter(None, (redis["endpoint"], redis["detail"])))
    lines += ["", f"{_mark(is_there=redis['ok'])} redis      {text}"]
    if found["withheld"]:
        lines.append(f"missing jobs       {text_of_withheld(found['withheld'])}")
    return lines


def _mark(*, is_there: bool) -> str:
    return "ok     " if is_there else "missing"
