"""Fixtures of the tests of big data."""

from __future__ import annotations

from tests.broker.conftest import redis_url  # noqa: F401 - a fixture, found by its name here
