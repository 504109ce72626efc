"""`poe chaos`, `poe chaos all`, `poe chaos "redis -9"`: campaigns in turn, then a table."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.backends import NotHere
from tests.chaos.campaigns import ALL, SELECTION
from tests.chaos.run import run
from tests.chaos.table import rendered


def main() -> int:
    """Return 1 when anything was found."""
    parser = argparse.ArgumentParser(prog="poe chaos", description=__doc__)
    parser.add_argument("names", nargs="*", help="campaigns; `all`; none: a selection of 3 minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="of faults, instead of each campaign's own")
    parser.add_argument("--keep", type=Path, help="keep logs and ledgers below this folder")
    options = parser.parse_args()
    if options.seconds is not None and not options.seconds > 0:  # NaN too
        parser.error("--seconds must be more than 0")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    chosen = _chosen(options.names, options.seconds)
    verdicts = []
    for name, seconds in chosen.items():
        with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
            folder = (options.keep or Path(directory)) / name.replace(" ", "-").replace(",", "")
            folder.mkdir(parents=True)
            began = time.monotonic()
            try:
                verdict = run(ALL[name], folder, seed=options.seed, seconds=seconds)
            except NotHere as error:
                print(f"{name}: left out, {error}", flush=True)  # noqa: T201 - a command's output
                continue
        verdicts.append(verdict)
        shown = "ok" if verdict.is_good else ", ".join(verdict.violations)
        print(f"{name}: {shown} ({time.monotonic() - began:.0f} s)", flush=True)  # noqa: T201 - as above
    print(f"\nseed {options.seed}\n\n{rendered(verdicts)}")  # noqa: T201 - as above
    return 0 if all(verdict.is_good for verdict in verdicts) else 1


def _chosen(names: list[str], seconds: float | None) -> dict[str, float | None]:
    """Return the campaigns, and for how long where that is not their own time."""
    if not names:
        return {name: seconds or short for name, short in SELECTION.items()}
    wanted = list(ALL) if names == ["all"] else names
    if unknown := [name for name in wanted if name not in ALL]:
        sys.exit(f"no campaign {unknown[0]!r}; there are: {', '.join(map(repr, ALL))}")
    return dict.fromkeys(wanted, seconds)


if __name__ == "__main__":
    sys.exit(main())
