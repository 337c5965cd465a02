"""The picture of when the steps of a run waited and worked: a row for each, in one SVG. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol

from oautom.pictures.folding import Fold, folded
from oautom.pictures.given import Href, Links, flag_of, limit_of, width_of
from oautom.pictures.graph import counts, summary
from oautom.pictures.nodes import Node, most_urgent
from oautom.pictures.style import sign, word
from oautom.pictures.svg import attribute, bounded, content, framed, label, number

ROWS: Final = 200
"""How many rows a timeline has at most, if no other limit is given."""
WIDTH: Final = 960
"""How wide a timeline is by default."""
WIDTH_MIN: Final = 320

_TALL: Final = 24.0
_HEAD: Final = 40.0
_FOOT: Final = 30.0
_NAMES: Final = 190.0
"""The room for the names."""
_TICK: Final = 90.0
"""The least distance of two times on the axis."""
_APART: Final = range(3, 40)
"""A row with more intervals shows where these are, and not each of them."""
_APART_TOGETHER: Final = 600
"""How many intervals the rows of a picture together show, about."""
_STEPS: Final = tuple(
    timedelta(seconds=unit * each)
    for unit, many in (
        (0.001, (1, 2, 5, 10, 20, 50, 100, 200, 500)),
        (1, (1, 2, 5, 10, 15, 30)),
        (60, (1, 2, 5, 10, 15, 30)),
        (3600, (1, 2, 3, 6, 12)),
        (86400, (1, 2, 7, 14, 30, 90, 365, 3650)),
    )
    for each in many
)
_MERGED: Final = 3.0
"""Intervals that are as near as this are shown as one, in a row with many; more so in many rows."""
_CROSS: Final = 14.0
"""How wide the bar of a failed attempt is at least to have a cross at its end."""
_WORDS: Final = {
    "waiting": "waited for a slot",
    "work": "work",
    "delay": "delay before the next attempt",
    "wait": "waited for a time, a person or a file",
}


class Span(Protocol):
    """An interval of a step, as `oautom.client.Span` has it."""

    @property
    def step(self) -> str | None:
        """The name of the step; None for the run itself, which waited for its turn."""

    @property
    def attempt(self) -> int:
        """The number of the attempt."""

    @property
    def kind(self) -> str:
        """`waiting`, `work`, `delay` or `wait`."""

    @property
    def start(self) -> datetime:
        """When it began."""

    @property
    def end(self) -> datetime | None:
        """When it ended; None if it has not."""


Ends = Mapping[tuple[str, int], str]
"""How each attempt ended: `success`, `failed`, ..., by step and number."""


def timeline_svg(
    spans: Iterable[Span],
    nodes: Sequence[Node],
    title: str,
    *,
    now: datetime,
    ends: Ends,
    limit: int | None = ROWS,
    width: int = WIDTH,
    href: Href | None = None,
    style: bool = True,
) -> str:
    """Return a picture of when each step waited and worked, as one element `svg`.

    Args:
        spans: What each step did, and when.
        nodes: The steps, in the order of declaration.
        title: What it shows, in words.
        now: The end of what goes on; for a run of the past, its last moment.
        ends: How the attempts ended; one that is missing goes on.
        limit: How many rows it may have; None for a row for each step.
        width: How wide it is.
        href: Returns the link of the row of a step, by its name; None for no link.
        style: Whether the colours are in it; else the page has `STYLE`.

    Raises:
        SettingError: An argument cannot be used, or `href` raises, or returns something else.
    """
    links, has_style, most = Links(href), flag_of(style), limit_of(limit)
    wide = width_of(width, WIDTH_MIN)
    by_step: dict[str | None, list[Span]] = {}
    for span in spans:
        by_step.setdefault(span.step, []).append(span)
    starts = [span.start for each in by_step.values() for span in each]
    first = min(starts, default=now)
    last = max([now, *(span.end for each in by_step.values() for span in each if span.end)])
    scale = _Scale(first, max(last - first, _STEPS[0]), now, wide - _NAMES)
    rows = [
        _Row(fold, [s for n in fold.members for s in by_step.get(n.name, ())])
        for fold in folded(nodes, most)
    ]
    rows.sort(key=lambda row: row.began or last)
    if None in by_step:
        rows.insert(0, _Row(None, by_step[None]))
    y, parts = _HEAD, []
    for row in rows:
        parts.append(row.svg(y, scale, ends, links, len(rows)))
        y += _TALL
    role = ' role="list"' if links.are_there else ""
    inside = f"{_axis(scale, y)}<g{role}>{''.join(parts)}</g>{_legend(y + 8)}"
    told = f"{summary(nodes, title)}, over {_seconds(scale.whole)}"
    return framed(inside, wide, y + _FOOT, told, style=has_style, has_links=links.are_there)


class _Scale(NamedTuple):
    """Where on the picture a time is."""

    first: datetime
    whole: timedelta
    now: datetime
    width: float

    def at(self, time: datetime) -> float:
        return _NAMES + self.width * ((time - self.first) / self.whole)

    def ends(self, span: Span) -> tuple[float, float]:
        """Return where an interval begins and ends; each is wide enough to be seen."""
        begins = self.at(span.start)
        return begins, max(begins + 1.5, self.at(span.end or max(self.now, span.start)))


class _Row:
    """One step, or several that share a row; or the run itself, if `fold` is None."""

    def __init__(self, fold: Fold | None, spans: list[Span]) -> None:
        self.fold = fold
        self.spans = spans
        self.began = min((span.start for span in spans), default=None)

    def svg(self, y: float, scale: _Scale, ends: Ends, links: Links, many: int) -> str:
        """Return the row at its height."""
        fold = self.fold
        members = fold.members if fold is not None else ()
        node = fold.node if fold is not None else None
        states = [each.state for each in members if each.state is not None]
        state = node.state if node is not None else most_urgent(states)
        name = node.told if node is not None else f"{len(members):,} steps"
        told = bounded(name)
        if fold is None:
            name = told = "the run"
        elif node is None:
            told += f": {counts(states)}"
        elif state is not None:
            told += f": {word(state)}"
            told += f", and of its items {counts(states[1:])}" if states[1:] else ""
        head = (
            f"<title>{content(told)}</title>{sign(state, 0, 4)}"
            f'<text class="oa-row" x="22" y="16">{content(label(name, 22))}</text>'
        )
        target = links.to(node.name) if node is not None else None
        if target is not None:
            head = f"<a href={attribute(target, None)} aria-label={attribute(told)}>{head}</a>"
        apart = max(_APART.start, min(_APART.stop, _APART_TOGETHER // many))
        is_whole = len(members) > 1 or len(self.spans) > apart
        bars = (
            self._merged(scale, state, _MERGED + many / 20)
            if is_whole
            else self._apart(scale, ends)
        )
        step = f" data-step={attribute(node.name)}" if node is not None else ""
        role = ' role="listitem"' if links.are_there else ""
        return (
            f'<g class="oa-step"{step} data-state={attribute(state or "")} '
            f'data-count="{len(members)}"{role} transform="translate(0 {number(y)})">'
            f"<g>{head}</g>{bars}</g>"
        )

    def _apart(self, scale: _Scale, ends: Ends) -> str:
        """Return each interval with what it was in words."""
        parts = []
        for span in self.spans:
            begins, over = scale.ends(span)
            state = ends.get((span.step or "", span.attempt), "running")
            took = _seconds((span.end or max(scale.now, span.start)) - span.start)
            told = [_WORDS.get(span.kind, span.kind), took]
            if span.kind == "work":
                told[0] = f"attempt {span.attempt}: {word(state)}"
                if span.attempt < 0:
                    told[0] = f"undone, attempt {-span.attempt}: {word(state)}"
            said = f"{told[0]}, {took}, from {_seconds(span.start - scale.first)} on"
            parts.append(
                f"<g><title>{content(said)}</title>{_bar(span.kind, begins, over, state)}</g>"
            )
        return "".join(parts)

    def _merged(self, scale: _Scale, state: str | None, near: float) -> str:
        """Return where the intervals of each kind are, as far as a picture can tell them apart."""
        parts = []
        for kind in ("waiting", "delay", "wait", "work"):
            at: list[list[float]] = []
            for begins, over in sorted(scale.ends(s) for s in self.spans if s.kind == kind):
                if at and begins <= at[-1][1] + near:
                    at[-1][1] = max(at[-1][1], over)
                else:
                    at.append([begins, over])
            if at and kind == "work":
                d = "".join(f"M{number(a)} 4H{number(b)}V20H{number(a)}z" for a, b in at)
                parts.append(f'<path class="oa-bar" data-state={attribute(state or "")} d="{d}"/>')
            elif at:
                d = "".join(f"M{number(begins)} 12H{number(over)}" for begins, over in at)
                parts.append(f'<path class="oa-{kind}" d="{d}"/>')
        return "".join(parts)


def _bar(kind: str, begins: float, over: float, state: str) -> str:
    if kind == "work":
        wide = over - begins
        cross = f'<path class="oa-cross" d="M{number(over - 11)} 9l6 6m0-6l-6 6"/>'
        return (
            f'<rect class="oa-bar" data-state={attribute(state)} x="{number(begins)}" y="4" '
            f'width="{number(wide)}" height="16" rx="{3 if wide > 6 else 1}"/>'
            f"{cross if state == 'failed' and wide >= _CROSS else ''}"
        )
    return f'<path class="oa-{content(kind)}" d="M{number(begins)} 12H{number(over)}"/>'


def _axis(scale: _Scale, bottom: float) -> str:
    """Return the times, each with a line down all rows."""
    most = max(1.0, scale.width // _TICK)
    step = next((each for each in _STEPS if scale.whole / each <= most), scale.whole)
    parts = []
    for i in range(int(scale.whole / step) + 1):
        x = number(scale.at(scale.first + i * step))
        parts.append(f'<path class="oa-tick" d="M{x} {number(_HEAD - 6)}V{number(bottom)}"/>')
        parts.append(
            f'<text class="oa-more" x="{x}" y="{number(_HEAD - 12)}">{_seconds(i * step)}</text>'
        )
    began = scale.first.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    parts.append(f'<text class="oa-more" x="0" y="12">{began}</text>')
    return f'<g aria-hidden="true">{"".join(parts)}</g>'


def _legend(y: float) -> str:
    """Return what each kind of interval looks like."""
    x, parts = _NAMES, []
    for kind in ("waiting", "work", "delay", "wait"):
        parts.append(_bar(kind, x, x + 26, ""))
        told = _WORDS[kind]
        parts.append(f'<text class="oa-more" x="{number(x + 32)}" y="16">{told}</text>')
        x += 48 + 6.2 * len(told)
    return f'<g aria-hidden="true" transform="translate(0 {number(y)})">{"".join(parts)}</g>'


def _seconds(time: timedelta) -> str:
    """Return a duration as people say it."""
    seconds = max(time.total_seconds(), 0.0)  # the clock may have been set back
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 60:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    whole = round(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts = []
    for unit, size in units:
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
