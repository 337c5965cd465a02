"""What a notebook shows of a flow or a run: the same as text, as SVG, and as Mermaid. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

_MERMAID_MAX: Final = 50_000
"""Mermaid draws no longer text."""
_MERMAID_EDGES_MAX: Final = 500
"""Nor one with more edges."""


def bundle(
    text: str,
    svg: Callable[[], str],
    mermaid: Callable[[], str],
    include: Collection[str] | None,
    exclude: Collection[str] | None,
) -> dict[str, str]:
    """Return the forms of a picture by their media types.

    Args:
        text: The plain text.
        svg: Returns the SVG.
        mermaid: Returns the Mermaid; it is left out if it is too much for Mermaid.
        include: The media types that are wanted; None for all.
        exclude: The media types that are not.
    """
    made = {"text/plain": lambda: text, "image/svg+xml": svg, "text/vnd.mermaid": mermaid}
    wanted = [each for each in made if include is None or each in include]
    found = {each: made[each]() for each in wanted if each not in (exclude or ())}
    drawn = found.get("text/vnd.mermaid", "")
    if len(drawn) > _MERMAID_MAX or drawn.count(" --> ") > _MERMAID_EDGES_MAX:
        del found["text/vnd.mermaid"]
    return found
