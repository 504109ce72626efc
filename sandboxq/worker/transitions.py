"""What follows from the outcomes of attempts: of one, and of many that returned together."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sandboxq.model.outcome import Complete, Failed, decide
from sandboxq.worker.attempt import DEFAULT_OPTIONS, ENDED, RUNNING
from sandboxq.worker.reports import LIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.model.job import Keep
    from sandboxq.model.outcome import Outcome, Retention, RetryRules, Transition
    from sandboxq.pool.calls import End
    from sandboxq.worker.attempt import Attempt, Ending

_log = logging.getLogger("sandboxq.worker")


def decided(
    attempt: Attempt, outcome: Outcome, retention: Retention, rules: RetryRules
) -> Transition:
    """Return what ``decide`` says, and a failure where that raises: every attempt must end."""
    job = attempt.job
    try:
        return decide(
            outcome,
            attempt.options,
            attempts_made=job.attempts_made,
            attempts_started=job.attempts_started,
            crashes=job.crashes,
            retention=retention,
            rules=rules,
        )
    except Exception as error:  # noqa: BLE001 - the boundary of one row: it must end somehow
        _log.exception("job %s: no way to go on", job.id.decode(errors="replace"))
        reason = f"what follows from its outcome cannot be decided: {error}"
        failure = Failed(reason, cause=type(error).__name__, is_unrecoverable=True)
        return decide(failure, DEFAULT_OPTIONS, attempts_made=0, retention=retention)


def complete_together(ends: Sequence[End], endings: list[Ending], kept: Keep) -> list[End]:
    """Add to ``endings`` the attempts that simply complete; return the ends of the others.

    ``kept`` is for jobs that do not say themselves how many are to be kept.
    """
    others = []
    last, transition = None, Complete(b"", kept)
    for end in ends:
        call, outcome, usage = end
        attempt = call.context
        if attempt.state is not RUNNING or attempt.span is not None or len(outcome.value) > LIGHT:
            others.append(end)
            continue
        attempt.state = ENDED
        # The call knows its attempt: left as a ring, both would wait for the garbage collector.
        attempt.call = None
        attempt.usage = usage
        attempt.seconds = usage[0] / 1_000_000
        keep = attempt.options.remove_on_complete or kept
        if outcome is not last or keep is not transition.keep:
            last, transition = outcome, Complete(outcome.value, keep, outcome.reference)
        endings.append((attempt, transition))
    return others
