"""`oautom`: joins the verbs, and tells each mistake in a sentence and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Final, NoReturn

import click

from oautom.cli.asking import approve, cancel, pause, reject, resume, retry, start
from oautom.cli.comparing import diff
from oautom.cli.declared import check, flows, graph
from oautom.cli.exits import BUG, INTERRUPTED, NO_READER, USAGE, Refusal, refusal_of
from oautom.cli.keeping import export, prune, verify
from oautom.cli.page import page
from oautom.cli.planning import backfill
from oautom.cli.running import run, serve
from oautom.cli.seeing import events, inbox, ls, plans, show, top, watch, why
from oautom.cli.simulated import simulate
from oautom.cli.texts import logs
from oautom.errors import OAutomError

_UNWRITABLE: Final = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
"""What writing to standard output may come to."""


class _Verbs(click.Group):
    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return the command of a name; one that is nearly right is suggested."""
        if (command := super().get_command(context, name)) is not None:
            return command
        near = get_close_matches(name, self.list_commands(context), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise click.UsageError(f"No such command '{name}'.{hint}", context)

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the verbs in the order in which one meets them."""
        return list(self.commands)


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="APP is package.module:app or file.py:app, an OAutom or a function that makes one.",
)
@click.version_option(package_name="oautom", message="oautom %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def oautom(debug: bool) -> None:
    """Run flows, and see what they do."""


for verb in (
    *(run, ls, show, why, logs, retry, watch),  # those that one needs first
    *(flows, check, graph, simulate, serve),
    *(events, top, inbox, approve, reject, start, pause, resume, cancel, plans, backfill),
    *(page, diff, verify, prune, export),
):
    oautom.add_command(verb)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Do what the command line says, and exit.

    Args:
        arguments: What stands behind the name of the program; None for `sys.argv`.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    sys.exit(_exit_code(given))


def _exit_code(given: list[str]) -> int:
    is_debug = "--debug" in given[:1]
    try:
        code: Any = oautom.main(given, prog_name="oautom", standalone_mode=False)
        sys.stdout.flush()
    except OAutomError as error:
        return _tell(refusal_of(error), error, is_debug=is_debug)
    except click.ClickException as error:
        return _tell(error, error.__cause__ or error, is_debug=is_debug)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return INTERRUPTED
    except SystemExit as end:
        if end.code == 1:  # click ends so where whoever reads stdout has closed it
            return NO_READER
        raise
    except Exception as error:
        return _tell_unforeseen(error, is_debug=is_debug)
    return code if isinstance(code, int) else 0


def _tell_unforeseen(error: Exception, *, is_debug: bool) -> int:
    if isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename is None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter tries again at its end
        if error.errno == errno.EPIPE:
            return NO_READER
        told = Refusal(f"the output cannot be written: {error.strerror}", USAGE)
        return _tell(told, error, is_debug=is_debug)
    said = f"this is a bug in oautom: {type(error).__name__}: {error}"
    hint = "" if is_debug else "; `oautom --debug ...` shows the traceback"
    return _tell(Refusal(f"{said}{hint}", BUG), error, is_debug=is_debug)


def _tell(told: click.ClickException, error: BaseException, *, is_debug: bool) -> int:
    if is_debug:
        traceback.print_exception(error)
    told.show()
    return told.code if isinstance(told, Refusal) else told.exit_code
