"""``python -m sandboxq``."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line."""
    _open_missing_descriptors()
    from sandboxq.cli.main import cli  # noqa: PLC0415 - `-m` start-up must not pay for a mere import

    cli.main(args=sys.argv[1:], prog_name="python -m sandboxq")


def _open_missing_descriptors() -> None:
    """Open those of 0, 1 and 2 that the caller closed on /dev/null, before anything else is opened.

    A socket that got the number 2 would be sent what is meant for stderr.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one; unlike others it is for programs we start too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - its signature
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - as long as the process
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    main()
