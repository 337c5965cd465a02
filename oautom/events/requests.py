"""What other processes ask of the engine that writes a log, and what it answers.

What is asked stands in a table that any program may write, of any version, and that has no
checksums. So no row is trusted: each is read as bytes of any kind, and is either a request that
could have been asked by `ask`, or says why it is none, and is answered with that.

Who has a row when:

- Whoever asks writes it. With a time `until` in it, somebody waits for the answer until then: who
  gives up takes the row back, and one that was left by somebody who died is dropped. Without, it
  waits for an engine for as long as it takes.
- An engine *claims* it, in a transaction of its own, before anything comes of it. Until then who
  has asked may take it back, and nothing was done; from then on nobody may.
- What came of it, its answer and its end are one transaction. So an engine that dies in between
  leaves a claimed row, and the next one does it, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from oautom.errors import (
    NotJsonError,
    OAutomError,
    SettingError,
    error_facts,
    error_of_facts,
    shown,
)
from oautom.values.json import from_json, plain_value, to_json
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
        may_wait: Nobody waits for the answer: it may be done when it can be.
    """

    id: int
    vect: str
    action: str
    data: Mapping[str, Any]
    problem: str | None = None
    may_wait: bool = True


class Answer(NamedTuple):
    """What has become of a request.

    Attributes:
        seq: The number of the event that came of it: for a cancel of `vect.cancelled`, for a start
            of `vect.created`; where none did, of the newest one there was.
        refusal: Why it was left undone; None if it was carried out.
        time: When that was.
        error: The refusal, as the error that the method itself raises in the program; or None.
    """

    seq: int
    refusal: str | None
    time: datetime
    error: OAutomError | None = None


class Settled(NamedTuple):
    """What the next commit says of a request.

    Attributes:
        seq: The number of the event that came of it; None for that of the newest one.
        refusal: Why it is left undone, if it is.
        error: The error that says so, as JSON.
    """

    seq: int | None = None
    refusal: str | None = None
    error: str | None = None

    @classmethod
    def refused(cls, why: str, error: OAutomError | None) -> Settled:
        """Return that a request is left undone."""
        told = None
        if error is not None:
            told = to_json({"kind": type(error).__name__, "facts": error_facts(error)}).decode()
        return cls(None, why, told)


DONE: Final = Settled()


def answer_of(seq: int, refusal: str | None, time: float, error: str | None) -> Answer:
    """Return an answer from its row; the error is as good as the row is."""
    raised: OAutomError | None = None
    if refusal is not None:
        kind, facts = "OAutomError", {}
        with suppress(msgspec.DecodeError, KeyError, TypeError):
            told = from_json(error or "")
            kind, facts = str(told["kind"]), dict(told["facts"])
        raised = error_of_facts(kind, refusal, facts)
    return Answer(seq, refusal, datetime.fromtimestamp(time, UTC), raised)


ACTIONS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = MappingProxyType(
    {
        "cancel": (frozenset(), frozenset({"reason"})),
        "pause": (frozenset(), frozenset()),
        "resume": (frozenset(), frozenset()),
        "retry": (frozenset(), frozenset()),
        "approve": (frozenset({"step", "by"}), frozenset({"data"})),
        "reject": (frozenset({"step", "by"}), frozenset({"reason"})),
        "start": (frozenset({"flow"}), frozenset({"params", "when_full"})),
    }
)
"""What can be asked of the engine through a log, and with which data: needed, and possible."""

_VALUES: Final = ("data", "params")  # any JSON; all else is text


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
    for name in sorted(data.keys() - {*_VALUES}):
        plain_text(data[name], f"{shown(action)}: {name}")
    for name in _VALUES:
        plain_value(data.get(name))
    if type(data.get("params", {})) is not dict:
        raise SettingError(
            f"{shown(action)}: params must be an object, not {shown(data['params'])}"
        )


# The table

_ROWS: Final = (
    "SELECT id, typeof(vect), CAST(vect AS BLOB), typeof(action), CAST(action AS BLOB), "
    "typeof(data), CASE WHEN length(CAST(data AS BLOB)) <= :most THEN CAST(data AS BLOB) END, "
    "until IS NULL OR claimed <> :me FROM requests WHERE id = :id"
)
_NO_DATA: Final[Mapping[str, Any]] = MappingProxyType({})


def numbers_of(connection: sqlite3.Connection) -> list[int]:
    """Return the numbers of all that is asked, in order."""
    return [number for (number,) in connection.execute("SELECT id FROM requests ORDER BY id")]


def has_unclaimed(connection: sqlite3.Connection) -> bool:
    """Whether something is asked that no engine has claimed."""
    sql = "SELECT 1 FROM requests WHERE claimed IS NULL LIMIT 1"
    return bool(connection.execute(sql).fetchall())


def claim_all(connection: sqlite3.Connection, me: int, now: datetime) -> None:
    """Claim all that is asked, and drop what nobody waits for any more; in a transaction.

    Args:
        connection: What to write with.
        me: Which engine claims it, by a number of its own.
        now: What time it is.
    """
    at = (now.timestamp(),)
    connection.execute("DELETE FROM requests WHERE claimed IS NULL AND until <= ?", at)
    connection.execute("UPDATE requests SET claimed = ? WHERE claimed IS NULL", (me,))


def claim(connection: sqlite3.Connection, number: int, me: int, now: datetime) -> bool:
    """Claim one request, as `claim_all`; False if that may not be done any more."""
    sql = (
        "UPDATE requests SET claimed = coalesce(claimed, ?) "
        "WHERE id = ? AND (claimed IS NOT NULL OR until IS NULL OR until > ?)"
    )
    return connection.execute(sql, (me, number, now.timestamp())).rowcount > 0


def take_back(connection: sqlite3.Connection, number: int) -> bool:
    """Take a request back that was asked; False if an engine has claimed it, or answered it."""
    sql = "DELETE FROM requests WHERE id = ? AND claimed IS NULL"
    return connection.execute(sql, (number,)).rowcount > 0


def newest_of(connection: sqlite3.Connection) -> int:
    """Return the highest number of what is asked; 0 if nothing is."""
    ((number,),) = connection.execute("SELECT max(id) FROM requests").fetchall()
    return number or 0


def read_requests(
    connection: sqlite3.Connection, numbers: Iterable[int], me: int = 0
) -> list[Request]:
    """Return what is asked under these numbers, whatever stands there.

    Args:
        connection: To the file.
        numbers: Of the requests.
        me: Which engine asks: for what an earlier one has claimed nobody waits any more.
    """
    found: list[Request] = []
    for number in numbers:
        values = {"id": number, "most": BYTES_MAX, "me": me}
        found += (_request(*row) for row in connection.execute(_ROWS, values).fetchall())
    return found


def _request(number: int, *cells: Any) -> Request:
    """Return what a row asks for; it may hold anything."""
    vect = action = ""
    may_wait = bool(cells[6])
    try:
        vect = _text("vect", *cells[0:2])
        action = _text("action", *cells[2:4])
        data = _data(_text("data", *cells[4:6]))
        check_request(action, data)
    except (SettingError, NotJsonError) as error:
        return Request(number, vect, action, _NO_DATA, str(error), may_wait)
    return Request(number, vect, action, data, None, may_wait)


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
    connection: sqlite3.Connection, taken: Mapping[int, Settled], seq: int, now: datetime
) -> None:
    """Do away with requests, and write down what has become of them; in a transaction.

    Old answers go at the same time, a few more than come, so that they do not add up.

    Args:
        connection: What to write with.
        taken: What has become of each, by its number.
        seq: The number of the newest event.
        now: What time it is.
    """
    connection.executemany("DELETE FROM requests WHERE id = ?", ((each,) for each in taken))
    at = now.timestamp()
    rows = [(number, at, each.seq or seq, *each[1:]) for number, each in taken.items()]
    connection.executemany(
        "INSERT OR REPLACE INTO answers (id, time, seq, refusal, error) VALUES (?, ?, ?, ?, ?)",
        rows,
    )
    connection.execute(
        "DELETE FROM answers WHERE time < ? AND id IN (SELECT id FROM answers ORDER BY id LIMIT ?)",
        (at - KEPT_SECONDS, 2 * len(taken) + 1),
    )
