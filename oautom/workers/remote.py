"""`Remote`: an output that stays with the executor that has made it, and its handle in the log.

The log has a handle of plain values in place of such an output. The output itself is bytes of
pickle, which go from worker to worker. In a worker, and in the program, a `Remote` stands for it
until somebody asks for the value. It lives as long as the program refers to the `Remote`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from oautom.errors import LostOutputError

KEPT: Final = "kept_remote"
"""The only key of a handle."""

SHELF: ContextVar[Shelf | None] = ContextVar("oautom_shelf", default=None)
"""Where each `Remote` has its value that is unpickled now, in a worker."""

TRAVELLERS: ContextVar[list[Remote] | None] = ContextVar("oautom_travellers", default=None)
"""Where each `Remote` is put that is pickled now: the work that it goes with needs it."""


class Handle(NamedTuple):
    """The facts of an output that stays.

    Attributes:
        key: What its executor calls it.
        size_bytes: Its size, pickled.
        kind: The name of its type.
    """

    key: str
    size_bytes: int
    kind: str

    @property
    def told(self) -> dict[str, Any]:
        """The handle as the log has it."""
        return {KEPT: {"key": self.key, "bytes": self.size_bytes, "type": self.kind}}


def is_handle(output: object) -> bool:
    """Whether an output in a log is the handle of one that has stayed elsewhere."""
    if type(output) is not dict or len(output) != 1 or KEPT not in output:
        return False
    facts = output[KEPT]
    return type(facts) is dict and list(facts) == ["key", "bytes", "type"]


class Shelf:
    """The place in a worker where outputs are that stay in the cluster.

    Args:
        key: The key of the task that the worker does.
        contents: What came with it, by key; None for what was lost.

    Attributes:
        key: See above.
        kept: The output of the task, pickled; None if there is none that stays.
    """

    def __init__(self, key: str, contents: Mapping[str, bytes | None]) -> None:
        self.key = key
        self.kept: bytes | None = None
        self._contents = contents

    def take(self, key: str) -> bytes | None:
        """Return an output that came with the task, or None."""
        return self._contents.get(key)


class KeptAnswer(NamedTuple):
    """The answer of work whose output has stayed elsewhere, if it has an output.

    Attributes:
        answer: The answer, packed.
        value: Stands for the output in the executor; what refers to it keeps the output there.
        take: Returns the output of a `value`, pickled; None if it is lost.
    """

    answer: bytes
    value: Any
    take: Callable[[Any], bytes | None]


class Remote:
    """An output that stays elsewhere. Any thread.

    Args:
        place: The names of its flow, its Vect and its step.
        key: What its executor calls it.
        value: See `KeptAnswer`; None if it is lost.
        take: As of `KeptAnswer`.
    """

    __slots__ = ("_place", "_take", "key", "value")

    def __init__(
        self,
        place: tuple[str, str, str],
        key: str,
        value: Any = None,
        take: Callable[[Any], bytes | None] | None = None,
    ) -> None:
        self._place = place
        self.key = key
        self.value = value
        self._take = take

    def opened(self) -> Any:
        """Return the output, made anew by each call.

        Raises:
            LostOutputError: It is lost.
        """
        content = None if self._take is None else self._take(self.value)
        if content is None:
            raise LostOutputError(*self._place)
        return pickle.loads(content)  # noqa: S301 - packed by a worker of ours

    def __reduce__(self) -> tuple[object, ...]:
        """Travel to a worker, without the value: that comes by its own way."""
        travellers = TRAVELLERS.get()
        if travellers is not None:
            travellers.append(self)
        return _arrived, (self._place, self.key)


def _arrived(place: tuple[str, str, str], key: str) -> Remote:
    shelf = SHELF.get()
    return Remote(place, key) if shelf is None else Remote(place, key, key, shelf.take)


class RemoteList(list[Any]):
    """The outputs of the instances of a map, some of which are a `Remote`."""

    def opened(self) -> list[Any]:
        """Return the outputs; errors as of `Remote.opened`."""
        return [each.opened() if type(each) is Remote else each for each in self]


REMOTE: Final = frozenset({Remote, RemoteList})
