"""Events as lines of JSON, without loss: for files, for other programs, for logs as tests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any, Final

import msgspec

from oautom.errors import EventRefusedError, LogError, NotJsonError
from oautom.machine.event import NO_DATA, NO_OUTPUT, Event
from oautom.machine.tables import VECT_CREATED
from oautom.values.json import to_json

_Options = dict[str, dict[str, Any]]
_Graph = dict[str, tuple[str, ...]]
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Event).decode
_decode_data = msgspec.json.Decoder(dict[str, Any]).decode
_NO_OUTPUT_JSON: Final = to_json(dict(NO_OUTPUT))
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class Line(msgspec.Struct, frozen=True, gc=False):
    """The parts of a line, in order: an event whose time and data are texts already."""

    seq: int
    time: str
    flow: str
    vect: str
    step: str | None
    attempt: int | None
    name: str
    source: str | None
    dest: str
    data: msgspec.Raw

    def encode(self) -> bytes:
        """Return the line, without the line break.

        Raises:
            UnicodeEncodeError: A name has half a character (a surrogate).
        """
        return _encode(self)


def line_of(event: Event) -> Line:
    """Return an event as the parts of a line.

    Raises:
        EventRefusedError: JSON cannot store a part of its data; the error names step and part.
    """
    try:
        if event.data is NO_OUTPUT:
            data = _NO_OUTPUT_JSON
        else:
            data = to_json(_plain(event)) if event.data else b"{}"
    except (NotJsonError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise _not_written(event, error) from error
    return Line(
        event.seq,
        event.time.isoformat(),
        event.flow,
        event.vect,
        event.step,
        event.attempt,
        event.name,
        event.source,
        event.dest,
        msgspec.Raw(data),
    )


def to_line(event: Event) -> str:
    """Return an event as one line of JSON, without the line break.

    Raises:
        EventRefusedError: JSON cannot store a part of its data; the error names step and part.
    """
    return encoded(event, line_of(event)).decode()


def encoded(event: Event, line: Line) -> bytes:
    """Return the line of an event in UTF-8.

    Raises:
        EventRefusedError: A name in the event cannot be written.
    """
    try:
        return line.encode()
    except (TypeError, ValueError) as error:  # a text with half a character, an int without end
        raise _not_written(event, error) from error


def _not_written(event: Event, error: Exception) -> EventRefusedError:
    return EventRefusedError(
        f"event {event.seq} ({event.name} of {event.step or 'the vect'}) cannot be written as "
        f"JSON: {error}",
        flow=event.flow,
        step=event.step,
    )


def _plain(event: Event) -> dict[str, Any]:
    data = dict(event.data)
    if event.name == VECT_CREATED:
        data["graph"] = {name: list(upstreams) for name, upstreams in data["graph"].items()}
        data["params"] = dict(data["params"])
        if "options" in data:
            data["options"] = {name: dict(given) for name, given in data["options"].items()}
        if "settings" in data:
            data["settings"] = dict(data["settings"])
    return data


def from_line(line: str | bytes) -> Event:
    """Return the event of a line that `to_line` has made; its data cannot be changed.

    Raises:
        LogError: The line is no event.
    """
    try:
        event = _decode(line)  # holds fields and types against those of Event
        return msgspec.structs.replace(
            event,
            time=msgspec.convert(event.time, _Instant).astimezone(UTC),
            data=_read_only(event.name, dict(event.data)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LogError(f"this line is no event: {error}: {line[:200]!r}") from error


def for_owner(path: str, flags: int) -> int:
    """Open a file that is for its owner only if it is new; an `opener` of `open`."""
    return os.open(path, flags, 0o600)


def from_parts(
    seq: int,
    time: str,
    flow: str,
    vect: str,
    step: str | None,
    attempt: int | None,
    name: str,
    source: str | None,
    dest: str,
    data: str,
) -> Event:
    """Return the event of the parts of a line that is known to be one that `to_line` has made.

    Raises:
        KeyError, TypeError, ValueError: The parts are none of such a line.
    """
    read_only = NO_DATA if data == "{}" else _read_only(name, _decode_data(data))
    instant = datetime.fromisoformat(time)
    return Event(seq, instant, flow, vect, step, attempt, name, source, dest, read_only)


def _read_only(name: str, data: dict[str, Any]) -> Mapping[str, Any]:
    if name == VECT_CREATED:
        data["graph"] = MappingProxyType(msgspec.convert(data["graph"], _Graph))
        data["params"] = MappingProxyType(msgspec.convert(data["params"], dict[str, Any]))
        if "options" in data:
            data["options"] = MappingProxyType(msgspec.convert(data["options"], _Options))
        if "settings" in data:
            data["settings"] = MappingProxyType(msgspec.convert(data["settings"], dict[str, Any]))
    return MappingProxyType(data) if data else NO_DATA


def write_jsonl(events: Iterable[Event], path: str | os.PathLike[str]) -> None:
    """Write events to a file, a line each; all of them, or the file is left as it was.

    Raises:
        LogError: An event cannot be written as JSON.
        OSError: The file cannot be written.
    """
    lines = "".join(f"{to_line(event)}\n" for event in events)
    with open(path, "w", encoding="utf-8", newline="\n", opener=for_owner) as file:
        file.write(lines)


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[Event]:
    """Yield the events of a file that `write_jsonl` has made.

    Raises:
        LogError: A line is no event; the error names the line.
        OSError: The file cannot be read.
    """
    with open(path, encoding="utf-8", newline="\n") as file:
        lines = list(file)
    for number, line in enumerate(lines, start=1):
        try:
            yield from_line(line)
        except LogError as error:
            raise LogError(f"{os.fspath(path)}, line {number}: {error}") from error
