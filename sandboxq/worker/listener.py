"""What the pool tells the worker, passed on to whom it concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.child.adding import ADD
from sandboxq.model.outcome import Completed
from sandboxq.observe.telemetry import JobLine, JobLines
from sandboxq.pool.outcomes import Unstored
from sandboxq.worker.attempt import GIVEN_UP, LOST

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sandboxq.model.outcome import Outcome
    from sandboxq.pool.calls import Question
    from sandboxq.pool.pool import Call
    from sandboxq.worker.answers import Answers
    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.blob_transfer import BlobTransfer
    from sandboxq.worker.context import WorkerContext
    from sandboxq.worker.job_adds import JobAdds
    from sandboxq.worker.settler import Settler


class WorkerListener:
    """The worker's side of the pool: outcomes and reports to the settler, room to the claimer."""

    def __init__(
        self,
        context: WorkerContext,
        *,
        settler: Settler,
        answers: Answers,
        adds: JobAdds,
        room: asyncio.Event,
    ) -> None:
        """Set ``room`` whenever the pool may take another call."""
        self._held = context.held
        self._telemetry = context.telemetry
        self._settler = settler
        self._answers = answers
        self._adds = adds
        self._room = room
        # Whether what waits for children is enough for now: told by whoever has the pool.
        self.is_stocked: Callable[[], bool] = bool
        self.blobs: BlobTransfer  # which delivers to the pool, which has to know this one

    def on_outcome(self, call: Call, outcome: Outcome, seconds: float) -> None:
        """Settle the attempt, unless its job belongs to somebody else by now."""
        attempt: Attempt = call.context
        call.blob = None  # its memory is wanted by the next
        if not isinstance(outcome, Completed):  # where it is, there is news of room too
            self._room.set()
        if attempt.state is LOST:
            self._held.gone(attempt)
            return
        if attempt.state is GIVEN_UP and not isinstance(outcome, Completed):
            # Handed back together with the others, in the order in which they were claimed.
            return
        attempt.seconds = seconds
        attempt.usage = call.usage
        if isinstance(outcome, Unstored):
            self.blobs.store(attempt, outcome)
        else:
            self._settler.end(attempt, outcome)

    def on_report(self, call: Call, kind: str, payload: bytes) -> None:
        """Write progress, a log row or new data."""
        self._settler.report(call.context, kind, payload)

    def wants_reports(self) -> bool:
        """Tell whether the settler keeps up."""
        return not self._settler.is_flooded

    def on_question(self, question: Question) -> None:
        """Do in Redis what a running job asks for."""
        (self._adds if question.kind == ADD else self._answers).take(question)

    def on_lines(self, call: Call | None, pid: int, stream: str, lines: list[str]) -> None:
        """Show what a child printed or logged, and keep it with its job."""
        job_id, telemetry = "", self._telemetry
        if call is not None:
            job_id = call.key.decode(errors="replace")
            text = "\n".join(lines)
            self._settler.report(call.context, "lines", text.encode(errors="replace"))
        if telemetry.wants(JobLines):
            telemetry.emit(JobLines(job_id, pid, stream, lines))
        if telemetry.wants(JobLine):
            for line in lines:
                telemetry.emit(JobLine(job_id, pid, stream, line))

    def on_room(self) -> None:
        """Wake the claimer, unless there is nothing for it to do."""
        if not self.is_stocked():
            self._room.set()
