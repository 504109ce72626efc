"""``python -m benchmarks all | NAME [options]``: list the benchmarks, or run them."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path

# One line for each benchmark; its module has `main(arguments)`.
NAMES = (
    "cpu_vs_io",
    "noop",
    "add",
    "resize",
    "io",
    "latency",
    "heartbeat",
    "memory",
    "models",
    "backlog",
    "dispatch",
    "coordinators",
    "policies",
    "scraped",
    "big_data",
    "peers",
    "kinds",
    "lines",
    "footprint",
    "summary",
)


def main() -> None:
    """Run what the first argument names; the others go to the benchmark."""
    name, *arguments = sys.argv[1:] or [""]
    if name == "all" and not arguments:
        for each in NAMES:
            import_module(f"benchmarks.{each}").main([])
    elif name in NAMES:
        import_module(f"benchmarks.{name}").main(arguments)
    else:
        _list(name)


def _list(name: str) -> None:
    if name:
        print(f"there is no benchmark {name!r}" if name != "all" else "all takes no options")
    print("usage: python -m benchmarks all | NAME [--help]\n")
    for each in NAMES:
        print(f"  {each:<12} {_question(each)}")
    sys.exit(2 if name else 0)


def _question(name: str) -> str:
    """Return the first line of a benchmark's docstring, without importing what it needs."""
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


if __name__ == "__main__":
    main()
