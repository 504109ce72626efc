"""Runs the fleet by itself, to look at: ``python -m tests.web.fleet unix:///path``."""

from __future__ import annotations

import asyncio
import sys

from tests.web.fleet.load import Fleet


async def main() -> None:
    """Run until it is interrupted."""
    async with Fleet(sys.argv[1]) as fleet:
        await fleet.fill()
        await fleet.keep_busy()


if __name__ == "__main__":
    asyncio.run(main())
