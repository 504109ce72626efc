"""The shop's books: stock and payments. Each step may be repeated: an order counts once."""

from __future__ import annotations

import sqlite3
from contextlib import closing

_TABLES = """
CREATE TABLE IF NOT EXISTS stock (product TEXT PRIMARY KEY, pieces INTEGER CHECK (pieces >= 0));
CREATE TABLE IF NOT EXISTS reserved (orderno TEXT PRIMARY KEY, product TEXT);
CREATE TABLE IF NOT EXISTS paid (orderno TEXT PRIMARY KEY, cents INTEGER);
"""


class Books:
    """A database file."""

    def __init__(self, path: str) -> None:
        """Use the file, and make its tables."""
        self._path = path
        with closing(sqlite3.connect(path)) as database:
            database.executescript(_TABLES)

    def change(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        """Make changes, all of them or none: a statement that changes nothing undoes the others."""
        with closing(sqlite3.connect(self._path, timeout=30)) as database, database:
            for text, values in statements:
                if not database.execute(text, values).rowcount:
                    database.rollback()
                    return

    def rows(self, text: str, *values: object) -> list[tuple[object, ...]]:
        """Return what a query finds."""
        with closing(sqlite3.connect(self._path, timeout=30)) as database:
            return database.execute(text, values).fetchall()
