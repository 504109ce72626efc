"""`poe fleet`: rolling deploys and scaling under load; `--short` for half a minute of each."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.conftest import running_server
from tests.fleet.fleet import Report, rolling, scaling


def main() -> int:
    """Return 1 when anything was lost, or a probe was wrong."""
    parser = argparse.ArgumentParser(prog="poe fleet", description=__doc__)
    parser.add_argument("names", nargs="*", help="rolling, scaling; none: both")
    parser.add_argument("--short", action="store_true", help="30 seconds instead of 5 minutes")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--every", type=float, default=10.0, help="seconds from roll to roll")
    options = parser.parse_args()
    seconds = 30.0 if options.short else 300.0
    reports = []
    with tempfile.TemporaryDirectory(prefix="fleet-") as text, running_server(Path(text)) as url:
        folder = Path(text)
        for name in options.names or ["rolling", "scaling"]:
            if name == "rolling":
                how = {"workers": options.workers, "every": options.every}
                report = asyncio.run(rolling(url, name, folder, seconds=seconds, **how))
            else:
                report = asyncio.run(scaling(url, name, folder, seconds=seconds))
            reports.append(report)
            _show(name, report)
    return 0 if all(report.is_good for report in reports) else 1


def _show(name: str, report: Report) -> None:
    print(f"{name}: {'ok' if report.is_good else 'NOT GOOD'}")  # noqa: T201 - a command's output
    for field, value in report._asdict().items():
        print(f"  {field:<13} {value}")  # noqa: T201 - as above


if __name__ == "__main__":
    sys.exit(main())
