"""The program `oautom`. Beside the package, so that `oautom --version` imports none of it."""

import io
import os
import sys
from importlib import metadata
from importlib.util import find_spec


def main() -> None:
    """Do what the command line says, and exit."""
    _open_streams()
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"oautom {metadata.version('oautom')}\n")
        return
    for name in ("click", "rich"):
        if find_spec(name) is None:
            sys.exit(f"oautom's command line needs {name}: pip install 'oautom[cli]'")
    from oautom.cli.main import main as run  # noqa: PLC0415 - the very thing this is for

    run()


def _open_streams() -> None:
    """Have three streams that take any text, also where one is closed, or its encoding narrow.

    A number that is free would be given to the next file that is opened: to the log.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # stderr is so anyway
