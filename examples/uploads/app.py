"""Uploads become thumbnails: a FastAPI application that shows how far each one is."""

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, StreamingResponse

from sandboxq import Queue
from sandboxq.integrations.fastapi import Sandboxq

FOLDER = Path(os.environ.get("UPLOADS", "uploads")).absolute()
MOST_BYTES = 20_000_000

sandboxq = Sandboxq()
app = FastAPI(lifespan=sandboxq.lifespan)
Thumbnails = Annotated[Queue, Depends(sandboxq.queue("thumbnails"))]


@app.post("/uploads", status_code=202)
async def upload(request: Request, thumbnails: Thumbnails) -> dict[str, Any]:
    """Store a picture, the body of the request, and have its thumbnails made."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"more than {MOST_BYTES} bytes")
    FOLDER.mkdir(exist_ok=True)
    source = FOLDER / uuid.uuid4().hex
    await asyncio.to_thread(source.write_bytes, body)
    job = await thumbnails.add("resize", {"src": str(source), "widths": [320, 160, 80]}, timeout=60)
    return {"job": job.id, "events": f"/jobs/{job.id}/events"}


@app.get("/jobs/{job_id}/events")
async def events(job_id: str, thumbnails: Thumbnails) -> StreamingResponse:
    """Stream the job's progress and end, as a browser's EventSource reads it."""
    return await sandboxq.events(thumbnails, job_id)


@app.get("/thumbnails/{name}")
async def thumbnail(name: str) -> FileResponse:
    """Return a thumbnail."""
    path = FOLDER / name
    if path.parent != FOLDER or not path.is_file():
        raise HTTPException(404)
    return FileResponse(path, media_type="image/png")


@app.get("/")
async def page() -> HTMLResponse:
    """Return the page: choose a picture, watch the bar, see the thumbnails."""
    return HTMLResponse((Path(__file__).parent / "page.html").read_text())
