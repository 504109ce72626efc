"""bull-board's API, as its web page asks it."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Board:
    """bull-board's API, with one queue."""

    port: int
    queue_name: str

    async def get(self, path: str) -> Any:
        """GET a path below /api/queues."""
        return await asyncio.to_thread(self._request, "GET", path)

    async def put(self, path: str) -> Any:
        """PUT a path below this queue."""
        return await asyncio.to_thread(self._request, "PUT", f"/{self.queue_name}{path}")

    async def jobs(self, status: str) -> list[dict[str, Any]]:
        """Return the jobs that the board lists in one of its tabs."""
        query = f"?activeQueue={self.queue_name}&status={status}&page=1&jobsPerPage=10"
        (queue,) = (await self.get(query))["queues"]
        jobs: list[dict[str, Any]] = queue["jobs"]
        return jobs

    def _request(self, method: str, path: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/queues{path}"
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as response:
            return json.loads(response.read() or b"null")
