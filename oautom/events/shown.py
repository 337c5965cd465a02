"""The names under which an engine shows itself in the table of its log.

The engine writes it, and clients read it: neither imports the other.
"""

from __future__ import annotations

from typing import Final

ENGINE: Final = "engine"
"""The row of the engine itself; the others show its parts, by a prefix and a name."""

FLOW: Final = "flow "
POOL: Final = "pool "
PLAN: Final = "plan "
STRANDED: Final = "stranded "
