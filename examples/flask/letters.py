"""Writes one letter, in an application context of its own; runs in a sandboxed child."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import current_app

if TYPE_CHECKING:
    from sandboxq import Job


def process(job: Job) -> str:
    """Return the letter."""
    return f"Dear {job.data['to']},\nyours, {current_app.config['SIGNATURE']}"
