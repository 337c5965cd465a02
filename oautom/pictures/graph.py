"""The picture of a flow or a run: its steps as boxes, its edges as lines, in one SVG. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from oautom.pictures.folding import BOXES, Fold, folded
from oautom.pictures.given import Href, Links, flag_of, limit_of
from oautom.pictures.layout import Box, Layout, Point, layout
from oautom.pictures.nodes import Node, counted, most_urgent
from oautom.pictures.style import sign, word
from oautom.pictures.svg import attribute, bounded, content, framed, label, number, width_of

_LETTER: Final = 7.9
"""How wide a letter of a name is."""
_SMALL: Final = 6.2
"""How wide a letter of the second line is."""
_NAME_MAX: Final = 28.0
"""How many letters of a name are shown; all of it is in the tooltip."""
_MORE_MAX: Final = 40.0
_INSIDE: Final = 12.0
_FOR_SIGN: Final = 24.0
_ARROW: Final = 7.0


def graph_svg(
    nodes: Sequence[Node],
    title: str,
    *,
    limit: int | None = BOXES,
    href: Href | None = None,
    style: bool = True,
    plain: bool = False,
) -> str:
    """Return a picture of steps and their edges, as one element `svg`.

    Args:
        nodes: The steps, in the order of declaration.
        title: What it shows, in words: `flow 'etl'`.
        limit: How many boxes it may have; None for a box for each step.
        href: Returns the link of the box of a step, by its name; None for no link.
        style: Whether the colours are in it; else the page has `STYLE`.
        plain: Lay it out without `fast-sugiyama`, as where it is not installed.

    Raises:
        SettingError: An argument cannot be used, or `href` raises, or returns something else.
    """
    links, has_style, most = Links(href), flag_of(style), limit_of(limit)
    items: dict[str | None, list[str]] = {}
    for node in nodes:
        if node.part_of is not None and node.state is not None:
            items.setdefault(node.part_of, []).append(node.state)
    drawn = [_Drawn(fold, items.get(fold.name, ())) for fold in folded(nodes, most)]
    tall = 48.0 if any(each.more for each in drawn) else 34.0
    sizes = {each.fold.name: (each.width, tall) for each in drawn}
    upstreams = {each.fold.name: each.fold.upstreams for each in drawn}
    found = layout(upstreams, sizes, plain=plain)
    boxes = [each.svg(found.boxes[each.fold.name], links) for each in drawn]
    role = ' role="list"' if links.are_there else ""
    inside = f"{_lines(found)}<g{role}>{''.join(boxes)}</g>"
    told = summary(nodes, title)
    return framed(
        inside, found.width, found.height, told, style=has_style, has_links=links.are_there
    )


def summary(nodes: Sequence[Node], title: str) -> str:
    """Return what a picture shows, for who does not see it."""
    count = f"{title}: {_steps(len(nodes))}"
    states = [node.state for node in nodes if node.state is not None]
    return f"{count}, {counts(states)}" if states else count


def counts(states: Sequence[str]) -> str:
    """Return how many steps are in each state, in words."""
    return ", ".join(f"{count:,} {word(state)}" for state, count in counted(states).items())


def _steps(count: int) -> str:
    return f"{count:,} step{'' if count == 1 else 's'}"


class _Drawn:
    """A box with its texts.

    Args:
        fold: The box.
        items: The states of all items of the map of this name, also of those with their own boxes.
    """

    def __init__(self, fold: Fold, items: Sequence[str]) -> None:
        self.fold = fold
        states: Sequence[str] = [each.state for each in fold.members if each.state is not None]
        node, count = fold.node, len(fold.members)
        if node is not None:
            states = items
        self.counted = counted(states) if node is None or items else {}
        self.state = most_urgent(states) if node is None else node.state
        if node is None:
            self.name, self.more = _steps(count), counts(states)
            shared = _shared([each.name for each in fold.members])
            if shared:
                self.name = f"{label(shared, _NAME_MAX - 1).removesuffix('…')}…"
                self.more = f"{_steps(count)}: {self.more}" if states else _steps(count)
            self.title = f"{_steps(count)}: {counts(states) or _some(fold.members)}"
        else:
            self.name, self.more = node.told, _more(node)
            told = self.more
            if items:
                self.more = f"{len(items):,} item{'' if len(items) == 1 else 's'}: {counts(items)}"
                told = f"{word(node.state or '')}, {self.more}"
            self.title = f"{bounded(node.told)}: {told}" if told else bounded(node.told)
        self.label = label(self.name, _NAME_MAX)
        self.more = label(self.more, _MORE_MAX, keep=1.0)
        text = max(width_of(self.label) * _LETTER, width_of(self.more) * _SMALL)
        self.width = max(64.0, 2 * _INSIDE + text + (_FOR_SIGN if self.state else 0.0))

    def svg(self, box: Box, links: Links) -> str:
        """Return the box at its place."""
        fold, tall = self.fold, box.height
        x = _INSIDE + (_FOR_SIGN if self.state else 0.0)
        size = f'width="{number(box.width)}" height="{number(tall)}" rx="9"'
        parts = [f"<title>{content(self.title)}</title>"]
        if len(fold.members) > 1:
            parts.append(f'<rect class="oa-under" x="4" y="4" {size}/>')
        parts.append(f'<rect class="oa-box" {size}/>')
        parts.append(sign(self.state, _INSIDE - 2, tall / 2 - 8))
        middle = tall / 2 + 4.5 if not self.more else tall / 2 - 3.5
        parts.append(f'<text class="oa-name" x="{number(x)}" y="{number(middle)}">')
        parts.append(f"{content(self.label)}</text>")
        if self.more:
            at = f'x="{number(x)}" y="{number(tall / 2 + 13)}"'
            parts.append(f'<text class="oa-more" {at}>{content(self.more)}</text>')
        parts.append(self._shares(box))
        inside = "".join(parts)
        target = links.to(fold.node.name) if fold.node is not None else None
        if target is not None:
            named = attribute(self.title)
            inside = f"<a href={attribute(target, None)} aria-label={named}>{inside}</a>"
        kind = "oa-step" if fold.node is not None else "oa-step oa-fold"
        name = f" data-step={attribute(fold.name)}" if fold.node is not None else ""
        role = ' role="listitem"' if links.are_there else ""
        return (
            f'<g class="{kind}"{name} data-state={attribute(self.state or "")} '
            f'data-count="{len(fold.members)}"{role} '
            f'transform="translate({number(box.x)} {number(box.y)})">{inside}</g>'
        )

    def _shares(self, box: Box) -> str:
        """Return a bar that shows how many of its steps are in each state."""
        if not self.counted:
            return ""
        total, x, parts = sum(self.counted.values()), 10.0, []
        room = box.width - 2 * x
        for state, count in self.counted.items():
            wide = room * count / total
            place = f'x="{number(x)}" y="{number(box.height - 6)}" width="{number(wide)}"'
            parts.append(
                f'<rect class="oa-share" data-state={attribute(state)} {place} height="3"/>'
            )
            x += wide
        return "".join(parts)


def _more(node: Node) -> str:
    """Return the second line of the box of a step."""
    parts = [word(node.state)] if node.state is not None else []
    if node.attempt > 1:
        parts.append(f"attempt {node.attempt}")
    if node.runs is not None:
        parts.append(f"runs {bounded(node.runs, 80)}")
    elif node.kind:
        parts.append(node.kind)
    return " · ".join(parts)


def _shared(names: Sequence[str]) -> str:
    """Return with what all names begin, if that is enough to tell something."""
    first, last = min(names), max(names)
    count = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    shared = first[:count].rstrip("0123456789")
    return shared if len(shared) > 2 else ""


def _some(members: Sequence[Node]) -> str:
    names = [bounded(node.told, 80) for node in members[:5]]
    return ", ".join(names) + (", …" if len(members) > len(names) else "")


def _lines(found: Layout) -> str:
    """Return all lines as one path, and an arrow at each box where one ends."""
    curves = "".join(_curve(line.points, line.head) for line in found.lines)
    ends = dict.fromkeys(line.points[-1] for line in found.lines if isinstance(line.head, str))
    arrows = "".join(f"M{_at((x - _ARROW, y - 4))}l7 4l-7 4z" for x, y in ends)
    if not curves:
        return ""
    paths = f'<path class="oa-line" d="{curves}"/><path class="oa-arrow" d="{arrows}"/>'
    return f'<g aria-hidden="true">{paths}</g>'


def _curve(points: Sequence[Point], head: str | int) -> str:
    """Return a line through points: straight along boxes, bent between columns."""
    (x, y), last = points[0], points[-1]
    parts = [f"M{_at((x, y))}"]
    for to_x, to_y in points[1:]:
        end_x = to_x - _ARROW + 1 if (to_x, to_y) == last and isinstance(head, str) else to_x
        if number(to_y) == number(y):
            parts.append(f"H{number(end_x)}")
        elif to_x == x:
            parts.append(f"V{number(to_y)}")
        else:
            half = number((x + end_x) / 2)
            parts.append(f"C{half} {number(y)} {half} {number(to_y)} {_at((end_x, to_y))}")
        x, y = end_x, to_y
    return "".join(parts)


def _at(point: Point) -> str:
    return f"{number(point[0])} {number(point[1])}"
