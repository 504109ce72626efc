"""``python -m sandboxq``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    from sandboxq.cli.main import cli  # noqa: PLC0415 - `-m` start-up must not pay for a mere import

    cli.main(args=sys.argv[1:], prog_name="python -m sandboxq")


if __name__ == "__main__":
    main()
