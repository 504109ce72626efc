"""A bank for the example, in a file. As real ones do, it takes money once for each key."""

from __future__ import annotations

import sqlite3
from contextlib import closing

_TABLE = """
CREATE TABLE IF NOT EXISTS charges
(key TEXT PRIMARY KEY, customer TEXT, cents INTEGER, asked INTEGER)
"""
_CHARGE = """
INSERT INTO charges VALUES (?, ?, ?, 1) ON CONFLICT (key) DO UPDATE SET asked = asked + 1
RETURNING rowid
"""


def charge(bank: str, key: str, customer: str, cents: int) -> int:
    """Take money and return the charge's number; again with the same key, the number alone."""
    with closing(sqlite3.connect(bank, timeout=30)) as database, database:
        database.execute(_TABLE)
        (row,) = database.execute(_CHARGE, (key, customer, cents)).fetchall()
        return int(row[0])
