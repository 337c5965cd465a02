"""What other processes ask of the engine that writes a log, and what it answers.

What is asked stands in a table that any program may write, of any version, and that has no
checksums. So no row is trusted: each is read as bytes of any kind, and is either a request that
could have been asked by `ask`, or says why it is none, and is answered with that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from oautom.errors import NotJsonError, SettingError, shown
from oautom.values.json import from_json, plain_value
from oautom.values.names import one_of, plain_text

if TYPE_CHECKING:
    import sqlite3

BYTES_MAX: Final = 64 * 2**20
"""How much the data of a request may take, as JSON."""

_NAMES_MAX: Final = 10  # of those that are told

KEPT_SECONDS: Final = 3600.0
"""For how long an answer can be read."""


class Request(NamedTuple):
    """What another process asks of the engine that writes the log.

    Attributes:
        id: Its number.
        vect: Id of the Vect concerned.
        action: What to do: one of `ACTIONS`.
        data: How, as JSON.
        problem: Why it cannot be done, whatever the state is in; None if it makes sense.
    """

    id: int
    vect: str
    action: str
    data: Mapping[str, Any]
    problem: str | None = None


class Answer(NamedTuple):
    """What has become of a request.

    Attributes:
        seq: The number of the newest event when it was answered: what came of it stands before.
        refusal: Why it was left undone; None if it was carried out.
        time: When that was.
    """

    seq: int
    refusal: str | None
    time: datetime


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
        NotJsonError: JSON cannot keep the data as they are.
    """
    if one_of(action, ACTIONS) is None:
        known = ", ".join(map(repr, ACTIONS))
        raise SettingError(f"action must be one of {known}, not {shown(action)}")
    needed, possible = ACTIONS[str(action)]
    if not needed <= data.keys() <= needed | possible:
        wanted = " and ".join(sorted(needed)) or "nothing"
        also = f", and takes {', '.join(sorted(possible))}" if possible else ""
        names = [name if name.isidentifier() else shown(name) for name in [*data][:_NAMES_MAX]]
        given = ", ".join(names) or "nothing"
        raise SettingError(f"{shown(action)} needs {wanted}{also}, not {given}")
    for name in sorted(data.keys() - {"data"}):
        plain_text(data[name], f"{shown(action)}: {name}")
    plain_value(data.get("data"))


# The table

_ROWS: Final = (
    "SELECT id, typeof(vect), CAST(vect AS BLOB), typeof(action), CAST(action AS BLOB), "
    "typeof(data), CASE WHEN length(CAST(data AS BLOB)) <= :most THEN CAST(data AS BLOB) END "
    "FROM requests WHERE id = :id"
)
_NO_DATA: Final[Mapping[str, Any]] = MappingProxyType({})


def numbers_of(connection: sqlite3.Connection) -> list[int]:
    """Return the numbers of all that is asked, in order."""
    return [number for (number,) in connection.execute("SELECT id FROM requests ORDER BY id")]


def newest_of(connection: sqlite3.Connection) -> int:
    """Return the highest number of what is asked; 0 if nothing is."""
    ((number,),) = connection.execute("SELECT max(id) FROM requests").fetchall()
    return number or 0


def read_requests(connection: sqlite3.Connection, numbers: Iterable[int]) -> list[Request]:
    """Return what is asked under these numbers, whatever stands there."""
    found: list[Request] = []
    for number in numbers:
        values = {"id": number, "most": BYTES_MAX}
        found += (_request(*row) for row in connection.execute(_ROWS, values).fetchall())
    return found


def _request(number: int, *cells: Any) -> Request:
    """Return what a row asks for; it may hold anything."""
    vect = action = ""
    try:
        vect = _text("vect", *cells[0:2])
        action = _text("action", *cells[2:4])
        data = _data(_text("data", *cells[4:6]))
        check_request(action, data)
    except (SettingError, NotJsonError) as error:
        return Request(number, vect, action, _NO_DATA, str(error))
    return Request(number, vect, action, data)


def _text(column: str, kind: str, content: bytes | None) -> str:
    if kind != "text":
        raise SettingError(f"its {column} must be text, not {kind}")
    if content is None:
        raise SettingError(f"its {column} takes more than {BYTES_MAX} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise SettingError(f"its {column} is no valid Unicode: {error}") from error


def _data(text: str) -> dict[str, Any]:
    try:
        data = from_json(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise SettingError(f"its data are no JSON: {error}") from error
    if type(data) is not dict:
        raise SettingError(f"its data must be an object of JSON, not {shown(data)}")
    return data


def settle(
    connection: sqlite3.Connection, taken: Mapping[int, str | None], seq: int, now: datetime
) -> None:
    """Do away with requests, and write down what has become of them; in a transaction.

    Old answers go at the same time, a few more than come, so that they do not add up.

    Args:
        connection: What to write with.
        taken: Why each was left undone, by its number; None if it was carried out.
        seq: The number of the newest event.
        now: What time it is.
    """
    connection.executemany("DELETE FROM requests WHERE id = ?", ((each,) for each in taken))
    at = now.timestamp()
    rows = ((number, at, seq, refusal) for number, refusal in taken.items())
    connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", rows)
    connection.execute(
        "DELETE FROM answers WHERE time < ? AND id IN (SELECT id FROM answers ORDER BY id LIMIT ?)",
        (at - KEPT_SECONDS, 2 * len(taken) + 1),
    )
