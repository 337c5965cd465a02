"""The verb `logs`: what steps have written, and what they write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final, NamedTuple

import click

from oautom.cli.absence import Absence, note_absence
from oautom.cli.exits import SUCCESS, USAGE, Refusal
from oautom.cli.file import found, of_file, path_of_log
from oautom.cli.output import json_option, note, print_json, print_json_line, verb
from oautom.client import Client, VectView
from oautom.client.follow import News
from oautom.events.sqlite import SqliteEventLog

_LOOK_SECONDS: Final = 0.1
_TAIL: Final = 1000
"""By how many characters the place is found from which on a text is new, where its beginning went
over the limit."""


class Written(NamedTuple):
    """What one attempt of a step has written, or a part of it."""

    step: str
    attempt: int
    text: str


@verb("Print what steps have written.", example="oautom logs - load --log runs.db")
@click.argument("vect")
@click.argument("step", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--attempt", type=int, metavar="N", help="Of this attempt. Default: the newest.")
@click.option("-n", "--lines", type=click.IntRange(1), metavar="LINES", help="Only the last lines.")
@json_option
@of_file
def logs(
    client: Client,
    vect: str,
    step: str | None,
    follow: bool,
    attempt: int | None,
    lines: int | None,
    as_json: bool,
) -> int:
    """Print what STEP of VECT has written; without STEP what all have, step by step."""
    view = found(client, vect)

    def look(at: VectView) -> Iterator[Written]:
        return _written(at, step, attempt)

    first = [each._replace(text=_end_of(each.text, lines)) for each in look(view)]
    if as_json and not follow:
        print_json([each._asdict() for each in first])
        return SUCCESS
    printer = _Printer(has_heads=step is None, as_json=as_json)
    for each in first:
        printer.put(each)
    if follow:
        known = {each[:2]: each.text for each in look(view)}
        _follow(client, view, look, known, printer)
    printer.end()
    if not printer.has_printed and not as_json:
        note("nothing was written")
    return SUCCESS


def _written(view: VectView, step: str | None, attempt: int | None) -> Iterator[Written]:
    """Yield what the steps have written, those that have written nothing left out.

    Raises:
        UnknownStepError: There is no such step.
        Refusal: The step has no such attempt.
    """
    for name in [step] if step is not None else list(view.steps):
        attempts = view.steps[name].attempts
        wanted = [each for each in attempts if attempt in (None, each.number)][-1:]
        if attempt is not None and step is not None and not wanted:
            numbers = ", ".join(str(each.number) for each in attempts) or "none"
            raise Refusal(f"step '{step}' has no attempt {attempt}; there are: {numbers}", USAGE)
        for each in wanted:
            if text := each.log_text:
                yield Written(name, each.number, text)


def _end_of(text: str, lines: int | None) -> str:
    return text if lines is None else "".join(text.splitlines(keepends=True)[-lines:])


def _follow(
    client: Client,
    view: VectView,
    look: Callable[[VectView], Iterator[Written]],
    known: dict[tuple[str, int], str],
    printer: _Printer,
) -> None:
    """Print what is written until the run has ended."""
    with closing(SqliteEventLog(path_of_log(), read_only=True)) as log:
        news, absence = News(log), Absence(client, note_absence)
        while not view.ended:
            if not news.are_there():
                absence.look()
                time.sleep(_LOOK_SECONDS)
                continue
            view = client.vect(view.id)
            for step, attempt, text in look(view):
                new = _behind(known.get((step, attempt), ""), text)
                known[step, attempt] = text
                if new:
                    printer.put(Written(step, attempt, new))
            time.sleep(_LOOK_SECONDS)


def _behind(before: str, text: str) -> str:
    """Return what is new in a text, whose beginning may have gone meanwhile."""
    if text.startswith(before):
        return text[len(before) :]
    tail = before[-_TAIL:]
    return text.rpartition(tail)[2]


class _Printer:
    """Prints pieces of what steps write, each under the name of its step."""

    def __init__(self, *, has_heads: bool, as_json: bool) -> None:
        self._has_heads = has_heads
        self._as_json = as_json
        self._step: str | None = None
        self._is_in_line = False
        self.has_printed = False

    def put(self, piece: Written) -> None:
        """Print a piece."""
        self.has_printed = True
        if self._as_json:
            print_json_line(piece._asdict())
            return
        if self._has_heads and piece.step != self._step:
            self.end()
            click.echo(f"==> {piece.step} <==")
        self._step = piece.step
        click.echo(piece.text, nl=False)
        self._is_in_line = not piece.text.endswith("\n")

    def end(self) -> None:
        """End the line that is begun."""
        if self._is_in_line:
            click.echo()
            self._is_in_line = False
