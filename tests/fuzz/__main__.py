"""`poe fuzz`, or one of them (`poe fuzz rows`, child, kills): random input until the time is over.

Each fuzzer is a module of this folder with ``fuzz(seconds, seed) -> list[str]``: what was found.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

_SECONDS = 600.0


def main() -> int:
    """Return 1 when anything was found."""
    here = Path(__file__).parent
    names = sorted(path.stem.removeprefix("fuzz_") for path in here.glob("fuzz_*.py"))
    parser = argparse.ArgumentParser(prog="poe fuzz", description=__doc__)
    parser.add_argument("name", nargs="?", choices=["all", *names], default="all")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for each fuzzer")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not options.seconds > 0:  # NaN too
        parser.error("--seconds must be more than 0")
    chosen = names if options.name == "all" else [options.name]
    found: list[str] = []
    for name in chosen:
        module = importlib.import_module(f"tests.fuzz.fuzz_{name}")
        problems = module.fuzz(options.seconds, options.seed)
        print(f"{name}: {len(problems) or 'nothing'} found, seed {options.seed}", flush=True)  # noqa: T201 - a command's output
        found += problems
    print("\n".join(found))  # noqa: T201 - as above
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
