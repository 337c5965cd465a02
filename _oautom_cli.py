"""The program `oautom`. Beside the package, so that `oautom --version` imports none of it."""

import sys
from importlib import metadata
from importlib.util import find_spec


def main() -> None:
    """Do what the command line says, and exit."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"oautom {metadata.version('oautom')}\n")
        return
    for name in ("click", "rich"):
        if find_spec(name) is None:
            sys.exit(f"oautom's command line needs {name}: pip install 'oautom[cli]'")
    from oautom.cli.main import main as run  # noqa: PLC0415 - the very thing this is for

    run()
