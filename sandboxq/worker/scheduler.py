"""Makes the next job of a scheduler when its present one has been claimed (protocol.md 3.22)."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

from sandboxq.broker.codec import options_from_wire, options_value
from sandboxq.broker.commands.schedulers import Iteration, advance
from sandboxq.errors import BrokerUnavailable, SandboxqError
from sandboxq.model.backoff import FIXED
from sandboxq.model.validation import whole_from_wire
from sandboxq.schedule import cron
from sandboxq.schedule.wall_clock import zone_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.commands.claim import ClaimedJob
    from sandboxq.schedule.cron import RepeatStrategy
    from sandboxq.worker.context import WorkerContext

_log = logging.getLogger("sandboxq.worker")

# Finished jobs of an earlier scheduler may have the next times; not many in a row do.
MOST_SLOTS = 32

# A queue has few schedulers, whose patterns are read again at each of their jobs.
_parse = functools.lru_cache(maxsize=256)(cron.parse)


class SchedulerAdvancer:
    """Keeps the schedulers of one queue going, by the jobs that this worker claims."""

    def __init__(self, context: WorkerContext) -> None:
        """Make jobs in the queue of this context."""
        self._broker = context.broker
        self._keys = context.keys
        self._strategy = context.settings.repeat_strategy

    async def advance(self, claimed: Sequence[ClaimedJob]) -> None:
        """Make what follows these jobs; what cannot be made is logged, and its scheduler ends.

        Raises: BrokerUnavailable; what follows some of them may have been made, and nothing is
        made twice.
        """
        now_ms = await self._broker.now_ms()
        strategy = self._strategy
        iterations = [each for job in claimed if (each := _iteration(job, now_ms, strategy))]
        for _ in range(MOST_SLOTS):
            if not iterations:
                return
            made = await self._make(iterations, now_ms)
            taken = [each for each, is_made in zip(iterations, made, strict=True) if not is_made]
            iterations = [later for each in taken if (later := _later_or_none(each, strategy))]
        _log.error("no time is left for the next job of %s", _names(iterations))

    async def _make(self, iterations: Sequence[Iteration], now_ms: int) -> list[bool]:
        try:
            return await advance(self._broker, self._keys, iterations, now_ms=now_ms)
        except BrokerUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - of many schedulers one may be the cause
            if len(iterations) == 1:
                _say_ended(iterations[0].scheduler_id, iterations[0].claimed_id, error)
                return [True]
        # One spoilt record must not end the others' schedulers.
        return [(await self._make([each], now_ms))[0] for each in iterations]


def _names(iterations: Sequence[Iteration]) -> str:
    return ", ".join(each.scheduler_id.decode(errors="replace") for each in iterations)


def _iteration(job: ClaimedJob, now_ms: int, strategy: RepeatStrategy | None) -> Iteration | None:
    """Return what follows a claimed job; None when nothing does or nothing can be made of it."""
    try:
        return iteration_after(job, now_ms, strategy)
    except Exception as error:  # noqa: BLE001 - the boundary of one scheduler: others go on
        _say_ended(job.scheduler_id, job.id, error)
        return None


def _later_or_none(taken: Iteration, strategy: RepeatStrategy | None) -> Iteration | None:
    try:
        return _later(taken, strategy)
    except Exception as error:  # noqa: BLE001 - as above
        _say_ended(taken.scheduler_id, taken.claimed_id, error)
        return None


def _say_ended(scheduler_id: bytes, job_id: bytes, error: Exception) -> None:
    """Say why a scheduler makes no more jobs; where that is nobody's input, with the trace."""
    names = scheduler_id.decode(errors="replace"), job_id.decode(errors="replace")
    trace = None if isinstance(error, SandboxqError) else error
    _log.error("scheduler %s ends with job %s: %s", *names, error, exc_info=trace)


def iteration_after(
    job: ClaimedJob, now_ms: int, strategy: RepeatStrategy | None = None
) -> Iteration | None:
    """Return the job that is to follow a claimed one, None when limit or end date stop it.

    Raises: UsageError for a pattern or zone that cannot be read, OptionsUnreadable.
    """
    options = options_from_wire(job.opts)
    repeat = _repeat_of(job)
    count = _whole(repeat.get("count")) + 1
    limit, end_ms = repeat.get("limit"), _whole(repeat.get("endDate"))
    if (limit is not None and count > _whole(limit)) or 0 < end_ms < now_ms:
        return None
    every_ms, next_ms = _whole(repeat.get("every")) or None, None
    if repeat.get("pattern"):
        after_ms = max(now_ms, _whole(options.extra.get("prevMillis")))
        seed = job.scheduler_id.decode(errors="replace")
        next_ms = _next_ms(repeat, after_ms, seed=seed, strategy=strategy)
        if next_ms is None:
            return None
    opts = _next_opts(job, {**repeat, "count": count}, next_ms, now_ms)
    return Iteration(
        job.id, job.scheduler_id, next_ms, every_ms, opts, options.priority, options.lifo
    )


def _repeat_of(job: ClaimedJob) -> dict[str, Any]:
    repeat = options_from_wire(job.opts).extra.get("repeat")
    return repeat if isinstance(repeat, dict) else {}


def _next_ms(
    repeat: dict[str, Any], after_ms: int, *, seed: str, strategy: RepeatStrategy | None
) -> int | None:
    seed = str(repeat.get("hashSeed") or seed)
    zone = zone_named(str(repeat.get("tz") or ""))
    after_ms = max(after_ms, _whole(repeat.get("startDate")))
    pattern = str(repeat["pattern"])
    if strategy is not None:
        next_ms = cron.next_by(strategy, pattern, after_ms)
    else:
        next_ms = _parse(pattern, seed=seed).next_ms(after_ms, zone)
    end_ms = _whole(repeat.get("endDate"))
    return None if next_ms is not None and 0 < end_ms < next_ms else next_ms


def _next_opts(
    job: ClaimedJob, repeat: dict[str, Any], next_ms: int | None, now_ms: int
) -> dict[str, Any]:
    # As Node, which makes each next job anew from the options of the last.
    opts: dict[str, Any] = {"attempts": 0, **options_value(job.opts)}
    if type(opts.get("backoff")) in (int, float):
        opts["backoff"] = {"type": FIXED, "delay": opts["backoff"]}
    for name in ("jobId", "delay", "prevMillis"):
        opts.pop(name, None)
    if next_ms is not None:
        opts["prevMillis"] = next_ms
    scheduler_id = job.scheduler_id.decode(errors="replace")
    return {**opts, "repeat": repeat, "repeatJobKey": scheduler_id, "timestamp": now_ms}


def _later(taken: Iteration, strategy: RepeatStrategy | None) -> Iteration | None:
    """Return the iteration after one whose time another job has."""
    repeat = taken.opts["repeat"]
    seed = taken.scheduler_id.decode(errors="replace")
    next_ms = _next_ms(repeat, taken.next_ms or 0, seed=seed, strategy=strategy)
    if next_ms is None:
        return None
    return taken._replace(next_ms=next_ms, opts={**taken.opts, "prevMillis": next_ms})


def _whole(value: Any) -> int:
    """Return a number of the wire as an integer, 0 for none or nonsense."""
    return whole_from_wire(value) or 0
