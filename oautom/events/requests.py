"""What other processes ask of the engine that writes a log."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from oautom.errors import SettingError, shown
from oautom.values import one_of


class Request(NamedTuple):
    """What another process asks of the engine that writes the log.

    Attributes:
        id: Its number.
        vect: Id of the Vect concerned.
        action: What to do: one of `ACTIONS`.
        data: How, as JSON.
    """

    id: int
    vect: str
    action: str
    data: Mapping[str, Any]


ACTIONS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = MappingProxyType(
    {
        "cancel": (frozenset(), frozenset({"reason"})),
        "pause": (frozenset(), frozenset()),
        "resume": (frozenset(), frozenset()),
        "retry": (frozenset(), frozenset()),
        "approve": (frozenset({"step", "by"}), frozenset({"data"})),
        "reject": (frozenset({"step", "by"}), frozenset({"reason"})),
    }
)
"""What can be asked of the engine through a log, and with which data: needed, and possible."""


def check_request(action: object, data: Mapping[str, Any]) -> None:
    """Refuse what cannot be asked of an engine.

    Raises:
        SettingError: There is no such action, or it takes other data.
    """
    if one_of(action, ACTIONS) is None:
        known = ", ".join(map(repr, ACTIONS))
        raise SettingError(f"action must be one of {known}, not {shown(action)}")
    needed, possible = ACTIONS[str(action)]
    if not needed <= data.keys() <= needed | possible:
        wanted = " and ".join(sorted(needed)) or "nothing"
        also = f", and takes {', '.join(sorted(possible))}" if possible else ""
        raise SettingError(
            f"{shown(action)} needs {wanted}{also}, not {', '.join(data) or 'nothing'}"
        )
    for name in sorted(data.keys() - {"data"}):
        if not isinstance(data[name], str):
            raise SettingError(f"{shown(action)}: {name} must be text, not {shown(data[name])}")
