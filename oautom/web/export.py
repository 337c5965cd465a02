"""`write_html`."""

from __future__ import annotations


def write_html() -> None:
    """Write."""
