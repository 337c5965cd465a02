"""What two Vects have otherwise: parameters, states, attempts, errors, outputs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oautom.values.json import json_key

if TYPE_CHECKING:
    from typing import Protocol

    class Stepped(Protocol):
        """A step of a Vect that is compared."""

        @property
        def name(self) -> str: ...
        @property
        def kind(self) -> str: ...
        @property
        def state(self) -> str: ...
        @property
        def attempt(self) -> int: ...
        @property
        def error(self) -> str | None: ...
        @property
        def output(self) -> Any: ...

    class Compared(Protocol):
        """A Vect that is compared."""

        @property
        def flow(self) -> str: ...
        @property
        def version(self) -> str | None: ...
        @property
        def state(self) -> str: ...
        @property
        def params(self) -> dict[str, Any]: ...
        @property
        def steps(self) -> Mapping[str, Stepped]: ...


PARTS_MAX: Final = 100
"""How many parts of one value are told; where more differ, the whole value is."""


class Absent:
    """What stands for a value that is not there: `None` is a value."""

    def __repr__(self) -> str:
        """Return the name by which it is used."""
        return "ABSENT"


ABSENT: Final = Absent()


class Difference(NamedTuple):
    """Something that two Vects have otherwise.

    Attributes:
        step: The name of the step; None for the Vect itself.
        what: What differs: `flow`, `version`, `state`, `attempt`, `error`, `params['day']`,
            `output`, `output['rows'][2]`.
        one: What the first Vect has there; `ABSENT` if it has nothing.
        other: What the second one has.
    """

    step: str | None
    what: str
    one: Any
    other: Any


def differences(one: Compared, other: Compared) -> list[Difference]:
    """Return what two Vects have otherwise: first of themselves, then of each step.

    Times are not compared: no two runs take equally long.
    """
    found = [
        *_values(None, "flow", one.flow, other.flow),
        *_values(None, "version", one.version, other.version),
        *_values(None, "state", one.state, other.state),
        *_values(None, "params", one.params, other.params),
    ]
    steps, others = one.steps, other.steps
    for name in dict.fromkeys([*steps, *others]):
        if name not in others:
            found.append(Difference(name, "state", steps[name].state, ABSENT))
        elif name not in steps:
            found.append(Difference(name, "state", ABSENT, others[name].state))
        else:
            found += _of_step(steps[name], others[name])
    return found


def _of_step(one: Stepped, other: Stepped) -> Iterator[Difference]:
    for what in ("kind", "state", "attempt", "error", "output"):
        yield from _values(one.name, what, getattr(one, what), getattr(other, what))


def _values(step: str | None, what: str, one: Any, other: Any) -> list[Difference]:
    """Return where two values differ: the parts, if the values have the same form."""
    found: list[Difference] = []
    stack = [(what, one, other)]
    while stack:
        path, mine, theirs = stack.pop()
        if mine is theirs or (
            ABSENT is not mine and ABSENT is not theirs and _is_same(mine, theirs)
        ):
            continue
        if parts := _parts(path, mine, theirs):
            stack += reversed(parts)
        else:
            found.append(Difference(step, path, mine, theirs))
        if len(found) > PARTS_MAX:
            return [Difference(step, what, one, other)]
    return found


def _is_same(one: Any, other: Any) -> bool:
    try:
        return json_key(one) == json_key(other)
    except Exception:  # a log in memory may have any object, which may do anything
        return False


def _parts(path: str, one: Any, other: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = dict.fromkeys([*one, *other])
        return [(f"{path}[{k!r}]", one.get(k, ABSENT), other.get(k, ABSENT)) for k in keys]
    if _is_list(one) and _is_list(other) and len(one) == len(other):
        pairs = zip(one, other, strict=True)
        return [(f"{path}[{i}]", mine, theirs) for i, (mine, theirs) in enumerate(pairs)]
    return []


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
