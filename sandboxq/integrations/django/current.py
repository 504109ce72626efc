"""The job whose task runs here, if one does."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandboxq.child.job import Job

# asgiref carries it into async tasks and their threads.
CURRENT: ContextVar[Job | None] = ContextVar("sandboxq_django_job", default=None)


def current_job() -> Job | None:
    """Return the job that this code is part of; None outside of a worker."""
    return CURRENT.get()
