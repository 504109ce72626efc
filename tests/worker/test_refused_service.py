"""What Redis refuses to a part of the worker is told in one line, and tried again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sandboxq.errors import QueueError
from sandboxq.worker.service import Service
from tests.conftest import run_async, wait_until_async

if TYPE_CHECKING:
    import pytest


def test_a_refusal_is_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    """Our frames would not say why; a worker that lacks a right said nothing else for pages."""
    tries = []

    async def loop() -> None:
        tries.append(1)
        if len(tries) == 1:
            message = "NOPERM no rights for 'x'"
            raise QueueError(message)
        await asyncio.sleep(60)

    async def was_tried_again() -> bool:
        return len(tries) == 2

    async def main() -> None:
        service = Service("stalled checker", loop)
        service.start()
        await wait_until_async(was_tried_again)
        await service.stop()

    run_async(main())
    assert [record.getMessage() for record in caplog.records] == [
        "stalled checker was refused (1 in a row): NOPERM no rights for 'x'"
    ]
    assert caplog.records[0].exc_info is None
