"""Tasks of a Django project that show what a backend has to do."""

from __future__ import annotations

import os
import signal
from typing import Any

import django
from django.db import connection
from shop.models import Sale
from shop.tasks import task


@task(queue_name="reports")
def fail(number: int) -> None:
    """Raise."""
    message = f"no {number}"
    raise LookupError(message)


@task(queue_name="reports", takes_context=True)
def attempt(context: Any, word: str, *, times: int) -> list[Any]:
    """Fail once; then say which attempt it is."""
    if context.attempt == 1:
        raise ValueError(word)
    return [context.attempt, word * times, context.task_result.id]


@task(queue_name="reports")
async def count_async() -> int:
    """Ask the database from asynchronous code."""
    return await Sale.objects.acount()


@task(queue_name="reports")
def crash() -> None:
    """End the child."""
    os.kill(os.getpid(), signal.SIGSEGV)


@task(queue_name="reports")
def nested() -> str:
    """Add another task, and tell its id."""
    return str(where.enqueue().id)


@task(queue_name="reports")
async def nested_async() -> str:
    """Do the same, asynchronously."""
    return str((await where.aenqueue()).id)


@task(queue_name="reports")
def where() -> dict[str, Any]:
    """Use the database; say by which connection, in which process."""
    before = connection.connection is not None
    Sale.objects.count()
    return {"pid": os.getpid(), "connected": before, "connection": id(connection.connection)}


@task(queue_name="reports")
def break_connection() -> None:
    """Leave a transaction open."""
    connection.set_autocommit(False)
    Sale.objects.create(product="left open", cents=1)


@task(queue_name="reports")
def note(word: str) -> str:
    """Leave a mark in the database."""
    Sale.objects.create(product=word, cents=0)
    return word


DJANGO = django.VERSION
