"""The addresses of the views. A page uses relative ones, so it works below any path and proxy.

Ids and names are parts of the query, never of the path: a browser rewrites `..` and a proxy `%2F`
in a path, and leaves a query as it is.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode


class Links:
    """The addresses of the page's views, relative to each other: all are in one folder."""

    is_file = False

    def _to(self, view: str, **parts: object) -> str:
        given = {name: each for name, each in parts.items() if each not in (None, "")}
        return f"{view}?{urlencode(given, quote_via=quote, safe='')}" if given else view

    def runs(self, **filters: object) -> str:
        """Return the address of the list of runs."""
        return self._to("./", **filters)

    def run(self, vect: str, **how: object) -> str:
        """Return the address of a run."""
        return self._to("run", id=vect, **how)

    def step(self, vect: str, step: str, at: object = None) -> str:
        """Return the address of a step of a run."""
        return self._to("step", id=vect, step=step, at=at)

    def events(self, vect: str, **how: object) -> str:
        """Return the address of the events of a run."""
        return self._to("events", id=vect, **how)

    def whole(self, vect: str, what: str, **which: object) -> str:
        """Return the address of a value or text that is too long for a page."""
        return self._to("whole", id=vect, what=what, **which)

    def view(self, name: str, **how: object) -> str:
        """Return the address of a view of its own: `days`, `inbox`, `plans`, `work`, `start`."""
        return self._to(name, **how)


class FileLinks(Links):
    """The addresses inside one file, which has some runs only.

    Args:
        runs: The ids of the runs that are in the file, and the names of their steps that are.
    """

    is_file = True

    def __init__(self, runs: dict[str, list[str]]) -> None:
        self._runs = {vect: str(number) for number, vect in enumerate(runs)}
        self._steps = {
            (vect, step): f"{self._runs[vect]}-{number}"
            for vect, steps in runs.items()
            for number, step in enumerate(steps)
        }

    def runs(self, **filters: object) -> str:
        """Return where the list of runs stands in the file."""
        return "#runs"

    def run(self, vect: str, **how: object) -> str:
        """Return where a run stands in the file; empty if it does not."""
        return f"#run-{self._runs[vect]}" if vect in self._runs else ""

    def step(self, vect: str, step: str, at: object = None) -> str:
        """Return where a step stands in the file; empty if it does not."""
        number = self._steps.get((vect, step))
        return "" if number is None else f"#step-{number}"

    def events(self, vect: str, **how: object) -> str:
        """Return where the events of a run stand in the file."""
        return f"#events-{self._runs[vect]}" if vect in self._runs else ""

    def whole(self, vect: str, what: str, **which: object) -> str:
        """Return nothing: a file has no more of a value than it shows."""
        return ""

    def view(self, name: str, **how: object) -> str:
        """Return nothing: a file has no such views."""
        return ""
