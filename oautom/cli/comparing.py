"""The verb `diff`: what two runs have otherwise."""

from __future__ import annotations

import json
from typing import Any

import click

from oautom.cli.exits import DIFFERENT, SUCCESS
from oautom.cli.file import found, of_file
from oautom.cli.output import json_option, note, one_line, print_json, print_table, seconds_of, verb
from oautom.client import ABSENT, Client, Difference, StepView, VectView

_WIDTH = 60
"""How many characters of a value are printed."""


@verb("Compare two runs.", example="oautom diff monday tuesday --log runs.db")
@click.argument("vect")
@click.argument("other")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if they differ, as `git diff` does.")
@json_option
@of_file
def diff(client: Client, vect: str, other: str, exit_code: bool, as_json: bool) -> int:
    """Show what the runs VECT and OTHER have otherwise; how long steps took counts as nothing."""
    one, two = found(client, vect), found(client, other)
    differ = one.differences(two)
    if as_json:
        print_json(_document(one, two, differ))
    else:
        rows = [("", "", one.id, two.id), *(_row(each) for each in differ), *_took(one, two)]
        if len(rows) > 1:
            print_table(rows)
        if not differ:
            note(f"vects '{one.id}' and '{two.id}' do not differ, except in time")
    return DIFFERENT if differ and exit_code else SUCCESS


def _row(each: Difference) -> tuple[str, ...]:
    return each.step or "", each.what, _shown(each.one), _shown(each.other)


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return one_line(text, _WIDTH)


def _took(one: VectView, two: VectView) -> list[tuple[str, ...]]:
    """Return the rows of those steps that took another time, as far as people read it."""
    pairs: list[tuple[str, VectView | StepView, VectView | StepView]] = [("", one, two)]
    others = two.steps
    pairs += [(name, step, others[name]) for name, step in one.steps.items() if name in others]
    rows = [(name, "took", _time(mine), _time(theirs)) for name, mine, theirs in pairs]
    return [row for row in rows if row[2] != row[3]]


def _time(view: VectView | StepView) -> str:
    seconds = _seconds(view)
    return "-" if seconds is None else seconds_of(seconds)


def _seconds(view: VectView | StepView) -> float | None:
    if view.start_date is None or view.end_date is None:
        return None
    return (view.end_date - view.start_date).total_seconds()


def _document(one: VectView, two: VectView, differ: list[Difference]) -> dict[str, Any]:
    """Return the JSON document: a side of a difference that has nothing is left out."""
    told = [
        {name: value for name, value in each._asdict().items() if value is not ABSENT}
        for each in differ
    ]
    others = two.steps
    seconds = {
        name: [_seconds(step), _seconds(others[name])]
        for name, step in one.steps.items()
        if name in others
    }
    whole = [_seconds(one), _seconds(two)]
    return {"vects": [one.id, two.id], "differences": told, "seconds": whole, "steps": seconds}
