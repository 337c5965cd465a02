"""Events as lines of JSON, without loss: for files, for other programs, for logs kept as tests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any

import msgspec

from oautom.errors import LogError, NotJsonError
from oautom.events.event import NO_DATA, Event
from oautom.states import VECT_CREATED
from oautom.values import from_json, to_json

_FIELDS = Event.__struct_fields__
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
_Graph = dict[str, tuple[str, ...]]


def to_line(event: Event) -> str:
    """Return an event as one line of JSON, without the line break.

    Raises:
        LogError: Its data hold something that JSON cannot keep; names step and part.
    """
    values = {field: getattr(event, field) for field in _FIELDS}
    values["time"] = event.time.isoformat()
    values["data"] = _plain(event)
    try:
        return to_json(values).decode()
    except NotJsonError as error:
        raise LogError(
            f"event {event.seq} ({event.name} of {event.step or 'the vect'}) cannot be written as "
            f"JSON: {error}",
            flow=event.flow,
            step=event.step,
        ) from error


def _plain(event: Event) -> dict[str, Any]:
    data = dict(event.data)
    if event.name == VECT_CREATED:
        data["graph"] = {name: list(upstreams) for name, upstreams in data["graph"].items()}
        data["params"] = dict(data["params"])
    return data


def from_line(line: str) -> Event:
    """Return the event of a line that `to_line` has made.

    Raises:
        LogError: The line is no event.
    """
    try:
        values = from_json(line)
        values["time"] = msgspec.convert(values["time"], _Instant).astimezone(UTC)
        event = msgspec.convert(values, Event)  # holds fields and types against those of Event
        data = dict(event.data)
        if event.name == VECT_CREATED:
            data["graph"] = MappingProxyType(msgspec.convert(data["graph"], _Graph))
            data["params"] = MappingProxyType(msgspec.convert(data["params"], dict[str, Any]))
        return msgspec.structs.replace(event, data=MappingProxyType(data) if data else NO_DATA)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LogError(f"this line is no event: {error}: {line[:200]!r}") from error


def write_jsonl(events: Iterable[Event], path: str | os.PathLike[str]) -> None:
    """Write events to a file, a line each; all of them, or the file is left as it was.

    Raises:
        LogError: An event cannot be written as JSON.
        OSError: The file cannot be written.
    """
    lines = "".join(f"{to_line(event)}\n" for event in events)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(lines)


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[Event]:
    """Yield the events of a file that `write_jsonl` has made.

    Raises:
        LogError: A line is no event; names the line.
        OSError: The file cannot be read.
    """
    with open(path, encoding="utf-8", newline="\n") as file:
        lines = list(file)
    for number, line in enumerate(lines, start=1):
        try:
            yield from_line(line)
        except LogError as error:
            raise LogError(f"{os.fspath(path)}, line {number}: {error}") from error
