"""Everything that a queue holds, from the server and from the model, in one form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from tests.broker.model import ModelJob, QueueModel

LISTS = ("wait", "paused", "active")
SETS = ("prioritized", "delayed", "completed", "failed")
COUNTERS = ("id", "pc", "limiter")


async def snapshot_of_server(broker: Broker, keys: QueueKeys, last_event: str) -> dict[str, Any]:
    """Return what there is now, and the events after ``last_event``."""
    found = await broker.pipeline(
        [
            *(("LRANGE", keys[name], 0, -1) for name in LISTS),
            *(("ZRANGE", keys[name], 0, -1, "WITHSCORES") for name in (*SETS, "marker")),
            *(("GET", keys[name]) for name in COUNTERS),
            ("SMEMBERS", keys["stalled"]),
            ("HMGET", keys["meta"], "paused", "concurrency"),
            ("XRANGE", keys["events"], f"({last_event}", "+"),
            ("KEYS", f"{keys.base}*"),
        ]
    )
    lists, sets, rest = found[:3], found[3:8], found[8:]
    names = sorted(each.decode().removeprefix(keys.base) for each in rest[-1])
    events = [(entry_id.decode(), _pairs(flat)) for entry_id, flat in rest[-2]]
    markers = _scores(sets.pop())
    return {
        **{name: _texts(ids) for name, ids in zip(LISTS, lists, strict=True)},
        **{name: _scores(ids) for name, ids in zip(SETS, sets, strict=True)},
        **{name: int(each or 0) for name, each in zip(COUNTERS, rest[:3], strict=True)},
        "noted": sorted(_texts(rest[3])),
        "is paused": rest[4][0] is not None,
        "concurrency": rest[4][1] and int(rest[4][1]),
        "events": [(e.get("event"), e.get("jobId"), e.get("prev")) for _, e in events],
        "last event": events[-1][0] if events else last_event,
        "markers": markers,
        **await _by_name(broker, keys, names),
    }


async def _by_name(broker: Broker, keys: QueueKeys, names: list[str]) -> dict[str, Any]:
    locks = [name for name in names if name.endswith(":lock")]
    logs = [name for name in names if name.endswith(":logs")]
    rules = [name for name in names if name.startswith(("de:", "dn:"))]
    own = {*LISTS, *SETS, *COUNTERS, "meta", "events", "marker", "stalled", "stalled-check"}
    jobs = [name for name in names if name not in {*own, *locks, *logs, *rules}]
    found = await broker.pipeline(
        [
            *(("GET", keys[name]) for name in locks),
            *(("LRANGE", keys[name], 0, -1) for name in logs),
            *(("HGETALL", keys[name]) for name in jobs),
            *((("GET" if name[1] == "e" else "EXISTS"), keys[name]) for name in rules),
            *(("PTTL", keys[name]) for name in rules if name[1] == "e"),
        ]
    )
    take = iter(found)
    return {
        "locks": {name.removesuffix(":lock"): next(take).decode() for name in locks},
        "logs": {name.removesuffix(":logs"): _texts(next(take)) for name in logs},
        "jobs": {name: _job(_pairs(next(take))) for name in jobs},
        "dedup": {name: _plain(next(take)) for name in rules},
        "has ttl": {name: next(take) > 0 for name in rules if name[1] == "e"},
    }


def snapshot_of_model(model: QueueModel) -> dict[str, Any]:
    """Return the same of a model."""
    dedups = {f"de:{name}": each for name, each in model.dedups.items()}
    return {
        **model.lists,
        **{name: dict(model.sets[name]) for name in SETS},
        "id": model.id_count,
        "pc": model.priority_count,
        "limiter": model.window_count,
        "noted": sorted(model.noted),
        "is paused": model.is_paused,
        "concurrency": model.concurrency,
        "events": model.events,
        "locks": model.locks,
        "logs": {job.id: job.logs for job in model.jobs.values() if job.logs},
        "jobs": {job.id: _model_job(job) for job in model.jobs.values()},
        "dedup": {
            **{name: each.owner for name, each in dedups.items()},
            **{f"dn:{name}": 1 for name in model.stored},
        },
        "has ttl": {name: each.has_ttl for name, each in dedups.items()},
    }


def _job(fields: Mapping[str, str]) -> dict[str, Any]:
    def number(name: str) -> int | None:
        return int(fields[name]) if name in fields else None

    return {
        "data": fields["data"],
        "timestamp": number("timestamp"),
        "delay": number("delay"),
        "priority": number("priority"),
        "atm, ats, stc": (number("atm") or 0, number("ats") or 0, number("stc") or 0),
        "defa": fields.get("defa"),
        "processedOn": number("processedOn"),
        "finishedOn": number("finishedOn"),
        "pb": fields.get("pb"),
        "progress": fields.get("progress"),
        "returnvalue": fields.get("returnvalue"),
        "failedReason": fields.get("failedReason"),
        "traces": len(json.loads(fields.get("stacktrace", "[]"))),
        "deid": fields.get("deid"),
    }


def _model_job(job: ModelJob) -> dict[str, Any]:
    return {
        "data": job.data,
        "timestamp": job.timestamp,
        "delay": job.delay,
        "priority": job.priority,
        "atm, ats, stc": (job.made, job.started, job.stalls),
        "defa": job.deferred,
        "processedOn": job.processed_on,
        "finishedOn": job.finished_on,
        "pb": job.worker,
        "progress": job.progress,
        "returnvalue": job.value,
        "failedReason": job.reason,
        "traces": len(job.traces),
        "deid": job.rule and job.rule.id,
    }


def _plain(value: bytes | int) -> str | int:
    return value.decode() if isinstance(value, bytes) else value


def _texts(values: list[bytes]) -> list[str]:
    return [value.decode() for value in values]


def _pairs(flat: Any) -> dict[str, str]:
    texts = _texts(flat)
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _scores(flat: list[bytes]) -> dict[str, float]:
    return {name: float(score) for name, score in _pairs(flat).items()}
