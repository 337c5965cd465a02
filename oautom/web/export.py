"""`html_of`: some runs as one file, which a browser opens without network: the same templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from markupsafe import Markup

from oautom.client import Client, VectView
from oautom.web import shows, texts
from oautom.web.links import FileLinks, Links
from oautom.web.templating import STATIC, render

VALUE_CHARACTERS: Final = 100_000
"""How much of a value the file has: there is no other place where the rest could be read."""
_ALL: Final = 1_000_000_000
_STYLES: Final = ("page.css", "pictures.css")


def html_of(client: Client, vects: Sequence[str]) -> str:
    """Return a page that shows runs in all their views, and needs nothing besides.

    Args:
        client: The log.
        vects: The ids of the runs.

    Raises:
        UnknownVectError: The log has no such run.
        LogError: The log cannot be read.
    """
    views = [client.vect(each) for each in dict.fromkeys(vects)]
    links = FileLinks({view.id: list(view.steps) for view in views})
    now = texts.utc_now()
    styles = "\n".join(STATIC[name][0].decode() for name in _STYLES)
    with client.at_once():
        runs = [_run(view, links) for view in views]
    return render(
        "export.html",
        runs=runs,
        links=links,
        now=now,
        zone=texts.zone(now),
        styles=Markup(styles),  # noqa: S704 - they are ours
        at=None,
        reasons={},
        key="",
    )


def _run(view: VectView, links: Links) -> dict[str, Any]:
    steps = shows.steps(view, size=_ALL)
    maps = [(name, shows.steps(view, name, size=_ALL)) for name in _maps(steps)]
    every = [row for _, each in [("", steps), *maps] for row in each.rows]
    reasons = view.reasons(step.name for step, _ in every)
    events = view.events()
    own: dict[str | None, list[Any]] = {}
    for event in events:
        own.setdefault(event.step, []).append(event)
    return {
        "run": view,
        "moment": shows.moment(view, None),
        "pictures": shows.pictures(view, links, None, is_asked=True),
        "params": shows.values(view.params, "param", VALUE_CHARACTERS),
        "steps": steps,
        "maps": maps,
        "children": shows.children(view, every),
        "details": [
            shows.step(view, step, why, VALUE_CHARACTERS, own.get(step.name, []))
            for (step, _), why in zip(every, reasons, strict=True)
        ],
        "events": events,
    }


def _maps(steps: shows.Steps) -> list[str]:
    return [step.name for step, instances in steps.rows if instances]
