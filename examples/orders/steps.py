"""The steps of an order, and what undoes them; run in sandboxed children."""

from __future__ import annotations

from typing import TYPE_CHECKING

from books import Books

from sandboxq import UnrecoverableError

if TYPE_CHECKING:
    from sandboxq import Job

# The bank refuses more.
CREDIT = 10_000


def process(job: Job) -> str:
    """Do the step that the job is named after; return its name."""
    data = job.data
    {"reserve": reserve, "charge": charge, "release": release, "refund": refund}[job.name](
        Books(data["books"]), data["order"], data["product"], data["cents"]
    )
    return job.name


def reserve(books: Books, order: str, product: str, _: int) -> None:
    """Take a piece from the stock."""
    books.change(
        ("INSERT OR IGNORE INTO reserved VALUES (?, ?)", (order, product)),
        ("UPDATE stock SET pieces = pieces - 1 WHERE product = ? AND pieces > 0", (product,)),
    )
    if not books.rows("SELECT 1 FROM reserved WHERE orderno = ?", order):
        message = f"no {product} is left"
        raise UnrecoverableError(message)


def charge(books: Books, order: str, _: str, cents: int) -> None:
    """Take the money."""
    if cents > CREDIT:
        message = f"the bank refuses {cents} cents"
        raise UnrecoverableError(message)
    books.change(("INSERT OR IGNORE INTO paid VALUES (?, ?)", (order, cents)))


def release(books: Books, order: str, product: str, _: int) -> None:
    """Undo ``reserve``."""
    books.change(
        ("DELETE FROM reserved WHERE orderno = ?", (order,)),
        ("UPDATE stock SET pieces = pieces + 1 WHERE product = ?", (product,)),
    )


def refund(books: Books, order: str, _: str, __: int) -> None:
    """Undo ``charge``."""
    books.change(("DELETE FROM paid WHERE orderno = ?", (order,)))
