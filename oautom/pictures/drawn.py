"""`Drawn`: what flows and runs have in common, as they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from oautom.pictures.nodes import Node


class _Drawable(Protocol):
    """What can be drawn, as its class has it."""

    def _nodes(self) -> list[Node]:
        """Return the boxes of its picture."""

    def _title(self) -> str:
        """Return what its picture is called, for those who do not see it."""


class _Pictured(_Drawable, Protocol):
    """What has the methods of `Drawn`, too."""

    def to_svg(self) -> str:
        """See `Drawn`."""

    def to_mermaid(self) -> str:
        """See `Drawn`."""


class Drawn:
    """The base class of what can be drawn. What draws is imported when a picture is asked for.

    A subclass has `_nodes` and `_title`. They are no abstract methods here: to ask of anything else
    whether it is a `Flow` would take three times as long, 0.11 us.
    """

    __slots__ = ()

    def to_svg(
        self: _Drawable,
        *,
        href: Callable[[str], str | None] | None = None,
        limit: int | None = 80,
        style: bool = True,
    ) -> str:
        """Return a picture of the steps, of a run with their states, as SVG.

        Args:
            href: Returns the link of the box of a step, by its name; None for no link.
            limit: How many boxes it may have: steps of a larger flow share boxes. None for a box
                for each step.
            style: Whether the style sheet is in it.

        Raises:
            SettingError: An argument cannot be used, or `href` raises, or returns something else.
        """
        from oautom.pictures.graph import graph_svg  # noqa: PLC0415 - most programs draw nothing

        return graph_svg(self._nodes(), self._title(), limit=limit, href=href, style=style)

    def to_mermaid(self: _Drawable) -> str:
        """Return the steps, of a run with their states, as a Mermaid flowchart.

        Many viewers of Markdown draw it.
        """
        from oautom.pictures.text import mermaid  # noqa: PLC0415 - as above

        return mermaid(self._nodes())

    def _repr_mimebundle_(
        self: _Pictured,
        include: Collection[str] | None = None,
        exclude: Collection[str] | None = None,
    ) -> dict[str, str]:
        """Return what a notebook shows: the picture, as it stands now."""
        from oautom.pictures.bundle import bundle  # noqa: PLC0415 - as above

        return bundle(repr(self), self.to_svg, self.to_mermaid, include, exclude)
