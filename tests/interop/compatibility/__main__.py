"""`python -m tests.interop.compatibility` asks every peer for docs/reference/compatibility.md."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path

from tests.conftest import run_async, running_server
from tests.interop.compatibility import our_probes
from tests.interop.compatibility.peers import ROOT, node_columns, port_column
from tests.interop.compatibility.room import found
from tests.interop.compatibility.table import OURS, rendered

PAGE = ROOT / "docs" / "reference" / "compatibility.md"

with (
    tempfile.TemporaryDirectory() as directory,
    running_server(Path(directory)) as url,
):
    ours = run_async(found(our_probes.PROBES, url))
    socket_path = url.removeprefix("unix://")
    port_title, port = port_column(socket_path)
    columns = {OURS: ours, **node_columns(socket_path), port_title: port}
    PAGE.write_text(rendered(columns, dt.datetime.now(dt.UTC).date().isoformat()))
