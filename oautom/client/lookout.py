"""Whether an engine is at work, and since when there is none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from oautom.client.client import Client


class Engine(NamedTuple):
    """Whether an engine is at work.

    Attributes:
        state: `alive`, `undriven` (nobody drives it, so it does not answer), or `none`.
        pid: The number of its process.
        since: When it began; where there is none, the last sign of one, or None.
    """

    state: str
    pid: int | None = None
    since: datetime | None = None


class Lookout:
    """Tells whether an engine is at work, and since when there is none.

    Args:
        client: Where to look.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seen: datetime | None = None
        self._newest: tuple[object, datetime | None] = ((None, -1), None)

    def engine(self) -> Engine:
        """Return whether an engine is at work.

        Raises:
            LogError: The log cannot be read.
        """
        engine = self._client.engine
        if engine is None:
            signs = [each for each in (self._seen, self._newest_time()) if each is not None]
            return Engine("none", None, max(signs, default=None))
        self._seen = datetime.now(UTC)
        return Engine("alive" if engine.is_driven else "undriven", engine.pid, engine.since)

    def _newest_time(self) -> datetime | None:
        """Return the time of the newest event; where it was pruned, of the newest run."""
        log, seq = self._client.log_id, self._client.seq
        if self._newest[0] != (log, seq):
            times = [each.time for each in self._client.events(max(seq - 1, 0), limit=1)]
            times = times or [each.changed for each in self._client.vects(limit=1)]
            self._newest = (log, seq), times[0] if times else None
        return self._newest[1]
