"""The server of ``sandboxq web``: it ends promptly and quietly while pages are open."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import uvicorn

from sandboxq.web.live import live_of

if TYPE_CHECKING:
    import socket
    from types import FrameType

    from sandboxq.web.app import DashboardApp


class PageServer(uvicorn.Server):
    """Ends by a signal as if it were asked to: uvicorn would raise the signal once more."""

    def __init__(self, config: uvicorn.Config, app: DashboardApp) -> None:
        """Serve this page."""
        super().__init__(config)
        self._dashboard = app.dashboard

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler
        """End; a second signal waits for nobody."""
        self.force_exit, self.should_exit = self.should_exit, True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, which would go on, then all else."""
        # Of requests that are cut short uvicorn writes a traceback each.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await live_of(self._dashboard).close()
        await super().shutdown(sockets)
