"""``python -m sandboxq``."""

import os
import sys


def main() -> None:
    """Run the command line."""
    _open_missing_descriptors()
    _put_current_folder_last()
    from sandboxq.cli.main import cli  # noqa: PLC0415 - `-m` start-up must not pay for a mere import

    is_module = os.path.basename(sys.argv[0]) == "__main__.py"  # noqa: PTH119 - as below
    cli.main(args=sys.argv[1:], prog_name="python -m sandboxq" if is_module else "sandboxq")


def _put_current_folder_last() -> None:
    """Give `python -m sandboxq` and `sandboxq` the same import path: the current folder last.

    Python has put it first, or the folder of the script: a file email.py there would be imported in
    place of Python's. Where a processor is loaded it is first again, if that is allowed.
    """
    if not sys.flags.safe_path:
        del sys.path[:1]
    try:
        here = os.getcwd()  # noqa: PTH109 - pathlib might be a file in it
    except OSError:  # it was removed
        return
    if here not in sys.path:
        sys.path.append(here)


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
