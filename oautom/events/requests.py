"""Requests of other processes to the engine that writes a log, and their answers.

Requests stand in a table that any program may write, of any version, and that has no checksums. So
no row is trusted: each is read as bytes of any kind, and is either a request that `ask` could have
written, or gets a `problem`, which is its answer.

The life of a row:

- The asking process writes it. With a time `until` in it, that process waits for the answer until
  then: if it gives up, it takes the row back, and a row whose process has died is dropped. Without
  `until`, the row waits for an engine for as long as it takes.
- An engine *claims* the row, in a transaction of its own, before it carries out the request. Until
  then the asking process may take the row back, and nothing was done; from then on nobody may.
- The events of the request, its answer and the end of the row are one transaction. So an engine
  that dies in between leaves a claimed row, and the next engine carries it out, once.
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
"""The largest size of the data of a request, as JSON."""

_NAMES_MAX: Final = 10  # how many names an error lists

KEPT_SECONDS: Final = 3600.0
"""The time for which an answer can be read."""


class Request(NamedTuple):
    """A request of another process to the engine that writes the log.

    Attributes:
        id: Its number.
        vect: Id of the Vect concerned.
        action: One of `ACTIONS`.
        data: The arguments of the action, as JSON.
        problem: Why it makes no sense in any state of the Vect; None if it makes sense.
        may_wait: Whether the request may wait until it can be carried out, since no process waits
            for its answer.
    """

    id: int
    vect: str
    action: str
    data: Mapping[str, Any]
    problem: str | None = None
    may_wait: bool = True


class Answer(NamedTuple):
    """The result of a request.

    Attributes:
        seq: The number of the event that the request has led to: for a cancel of `vect.cancelled`,
            for a start of `vect.created`; without such an event, of the newest one at that time.
        refusal: Why the request was not carried out; None if it was.
        time: The time of the answer.
        error: The refusal as the error that the method itself raises in the program; or None.
    """

    seq: int
    refusal: str | None
    time: datetime
    error: OAutomError | None = None


class Settled(NamedTuple):
    """The result of a request, which the next commit writes.

    Attributes:
        seq: The number of the event that it has led to; None for that of the newest event.
        refusal: Why it is not carried out, or None.
        error: The error of the refusal, as JSON.
    """

    seq: int | None = None
    refusal: str | None = None
    error: str | None = None

    @classmethod
    def refused(cls, why: str, error: OAutomError | None) -> Settled:
        """Return the result of a request that is not carried out."""
        told = None
        if error is not None:
            told = to_json({"kind": type(error).__name__, "facts": error_facts(error)}).decode()
        return cls(None, why, told)


DONE: Final = Settled()


def answer_of(seq: int, refusal: str | None, time: float, error: str | None) -> Answer:
    """Return an answer from its row; the error of a damaged row is a plain `OAutomError`."""
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
        "backfill": (frozenset({"flow", "from", "to"}), frozenset({"parallel", "plan"})),
        "start": (
            frozenset({"flow"}),
            frozenset({"given", "only", "params", "until", "when_full"}),
        ),
    }
)
"""The actions of requests, each with its data: required, and optional."""

_VALUES: Final = ("data", "given", "parallel", "params", "until")  # any JSON; all else is text


def check_request(action: object, data: Mapping[str, Any]) -> None:
    """Refuse a request that no engine can carry out.

    Raises:
        SettingError: There is no such action, or it takes other data.
        NotJsonError: JSON cannot store the data unchanged.
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
    """Return the numbers of all requests, in order."""
    return [number for (number,) in connection.execute("SELECT id FROM requests ORDER BY id")]


def has_unclaimed(connection: sqlite3.Connection) -> bool:
    """Whether there is a request that no engine has claimed."""
    sql = "SELECT 1 FROM requests WHERE claimed IS NULL LIMIT 1"
    return bool(connection.execute(sql).fetchall())


def claim_all(connection: sqlite3.Connection, me: int, now: datetime) -> None:
    """Claim all requests, and drop those that no process waits for any more; in a transaction.

    Args:
        connection: The connection that writes.
        me: The number of the engine that claims them.
        now: The present time.
    """
    at = (now.timestamp(),)
    connection.execute("DELETE FROM requests WHERE claimed IS NULL AND until <= ?", at)
    connection.execute("UPDATE requests SET claimed = ? WHERE claimed IS NULL", (me,))


def claim(connection: sqlite3.Connection, number: int, me: int, now: datetime) -> bool:
    """Claim one request, as `claim_all`; return False if it may not be carried out any more."""
    sql = (
        "UPDATE requests SET claimed = coalesce(claimed, ?) "
        "WHERE id = ? AND (claimed IS NOT NULL OR until IS NULL OR until > ?)"
    )
    return connection.execute(sql, (me, number, now.timestamp())).rowcount > 0


def take_back(connection: sqlite3.Connection, number: int) -> bool:
    """Take back a request; return False if an engine has claimed it, or answered it."""
    sql = "DELETE FROM requests WHERE id = ? AND claimed IS NULL"
    return connection.execute(sql, (number,)).rowcount > 0


def newest_of(connection: sqlite3.Connection) -> int:
    """Return the highest number of a request; 0 if there is none."""
    ((number,),) = connection.execute("SELECT max(id) FROM requests").fetchall()
    return number or 0


def read_requests(
    connection: sqlite3.Connection, numbers: Iterable[int], me: int = 0
) -> list[Request]:
    """Return the requests with these numbers, whatever their rows contain.

    Args:
        connection: The connection to the file.
        numbers: The numbers of the requests.
        me: The number of the calling engine: no process waits any more for requests that an earlier
            engine has claimed.
    """
    found: list[Request] = []
    for number in numbers:
        values = {"id": number, "most": BYTES_MAX, "me": me}
        found += (_request(*row) for row in connection.execute(_ROWS, values).fetchall())
    return found


def _request(number: int, *cells: Any) -> Request:
    """Return the request of a row, which may contain anything."""
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
    """Remove requests, and write their answers, in a transaction.

    Old answers are removed at the same time, a few more than are added, so that they do not pile
    up.

    Args:
        connection: The connection that writes.
        taken: The result of each request, by its number.
        seq: The number of the newest event.
        now: The present time.
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
