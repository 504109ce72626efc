"""One Chromium over the dashboards of one queue; what a person does on them, as methods."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.node_driver import NodeDriver

# Above what a selector waits inside the driver.
CALL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Browser:
    """driver.mjs with the dashboards at one port. Selectors are Playwright's."""

    driver: NodeDriver
    port: int
    shots: Path

    async def call(self, command: str, **arguments: Any) -> Any:
        """Run one command of driver.mjs."""
        answer = self.driver.ask(command, **arguments)
        return await asyncio.wait_for(asyncio.wrap_future(answer), CALL_SECONDS)

    async def goto(self, path: str) -> None:
        """Show a page and wait until its requests are answered."""
        await self.call("goto", url=f"http://127.0.0.1:{self.port}{path}")

    async def see(self, *selectors: str) -> None:
        """Wait until each of these is visible; fail when it does not come."""
        for selector in selectors:
            await self.call("see", selector=selector)

    async def click(self, *selectors: str) -> None:
        """Click these, one after the other, each as soon as it can be clicked."""
        for selector in selectors:
            await self.call("click", selector=selector)

    async def fill(self, selector: str, value: str) -> None:
        """Write into an input."""
        await self.call("fill", selector=selector, value=value)

    async def replace_text(self, selector: str, text: str) -> None:
        """Replace all text of an editor that is no plain input."""
        await self.click(selector)
        await self.call("press", key="Control+A")
        await self.call("type", text=text)

    async def run_with(self, script: str, given: Any) -> None:
        """Run JavaScript in the page, with a JSON value under the name ``given``."""
        await self.call("run", script=f"(given) => {{ {script} }}", given=given)

    async def count(self, selector: str) -> int:
        """Return how many of these are on the page."""
        return int(await self.call("count", selector=selector))

    async def text(self) -> str:
        """Return what the page shows."""
        return str(await self.call("text"))

    async def shot(self, name: str) -> None:
        """Keep a picture of the page as it is, after checking that nothing went wrong on it."""
        await self.call("shot", path=str(self.shots / f"{name}.png"))
        troubles = await self.call("troubles")
        assert troubles == []
        shown = await self.text()
        for slip in ("NaN", "undefined", "Invalid", "[object Object]"):
            assert slip not in shown, f"{slip} on {name}"
