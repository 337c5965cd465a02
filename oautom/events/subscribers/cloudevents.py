"""`CloudEventsWriter`: events as CloudEvents 1.0, a line of JSON each, for other programs.

Sources: "CloudEvents", version 1.0.2, and "JSON Event Format for CloudEvents", version 1.0.2, at
https://github.com/cloudevents/spec/tree/v1.0.2/cloudevents (spec.md, formats/json-format.md).
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from io import IOBase, TextIOBase
from types import MappingProxyType, TracebackType
from typing import Any, Final, Protocol, Self, cast

import msgspec

from oautom.errors import LogError, SettingError, shown
from oautom.events.jsonl import for_owner, to_line
from oautom.machine.event import Event
from oautom.processes import forked
from oautom.values.json import is_json, to_json
from oautom.values.names import readable

_URI_REFERENCE: Final = re.compile(r"(?:[\w.~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_REPR_MAX: Final = 1000
_DEPTH_MAX: Final = 20


class TextStream(Protocol):
    """A stream of text."""

    def write(self, text: str, /) -> object:
        """Write a text."""

    def flush(self) -> object:
        """Pass on the written text."""


class CloudEventsWriter:
    """A writer of CloudEvents: a call writes one event. For signals and subscriptions.

    A line has the attributes `specversion`, `id`, `source`, `type` (`oautom.step.failed`),
    `subject` (flow/vect/step, percent-encoded), `time`, `datacontenttype` and `data`: the event as
    `to_jsonl` of a log writes it. An event that is written again has the same `id` again.

    A value that JSON cannot store (a log in memory may have any object) is written as its `repr()`.

    A context manager: the end of the block closes it. May be used on any thread, and in a forked
    child as well: each line is appended by one write.

    Args:
        to: The path of a file, which is made or appended to, never truncated; or an open stream of
            text, which is flushed after each line and stays yours to close.
        source: Where the events come from: a URI or relative reference of your choice.

    Raises:
        SettingError: `source` is no URI reference, or `to` is neither a path nor a stream of text.
        OSError: The file cannot be opened.
    """

    def __init__(self, to: str | os.PathLike[str] | TextStream, *, source: str) -> None:
        if not isinstance(source, str) or not _URI_REFERENCE.fullmatch(source):
            raise SettingError(
                f"source must be a URI reference, as 'https://example.org/etl' or '/etl', not "
                f"{shown(source)}; percent-encode all other characters"
            )
        self.source = source
        self._lock, self._process = threading.Lock(), forked.here
        self._out: _File | _Stream
        if isinstance(to, str | os.PathLike):
            self._out = _File(to)
        elif hasattr(to, "write") and (isinstance(to, TextIOBase) or not isinstance(to, IOBase)):
            self._out = _Stream(to)
        else:
            raise SettingError(f"to must be a path or an open stream of text, not {shown(to)}")

    def __call__(self, flow: object, event: Event, **_: object) -> None:
        """Write an event.

        Raises:
            OSError: The file cannot be written; the written part of the line stays there as a line
                of its own, which is no JSON.
        """
        line = to_cloudevent(event, self.source) + "\n"
        self._free_in_fork()
        with self._lock:
            self._out.write(line)

    def close(self) -> None:
        """Close the file; a stream stays open. May be called twice."""
        self._free_in_fork()
        with self._lock:
            self._out.close()

    def _free_in_fork(self) -> None:
        """Free the lock in a forked child, if a thread of the parent had it."""
        if not self._process.is_here:
            self._lock, self._process = threading.Lock(), forked.here

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


class _Stream:
    def __init__(self, stream: TextStream) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        self._stream.write(line)
        self._stream.flush()

    def close(self) -> None:
        pass


class _File:
    """A file to which lines are appended, each by one write: only the last line can be torn.

    If the last line is torn, because the program died or the disk was full, the next one begins on
    a new line: the torn part may have been read already, and is never removed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._is_torn = _ends_within_a_line(path)
        # Closed by `close`.
        self._file = open(path, "ab", buffering=0, opener=for_owner)  # noqa: SIM115

    def write(self, line: str) -> None:
        rest = memoryview((("\n" if self._is_torn else "") + line).encode())
        while rest:
            rest = rest[self._file.write(rest) :]
            self._is_torn = bool(rest)

    def close(self) -> None:
        self._file.close()


def _ends_within_a_line(path: str | os.PathLike[str]) -> bool:
    if not os.path.isfile(path) or os.path.getsize(path) == 0:  # a pipe has no last line
        return False
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def to_cloudevent(event: Event, source: str) -> str:
    """Return an event as the JSON of a CloudEvent, without a line break."""
    names = [event.flow, event.vect, *([] if event.step is None else [event.step])]
    time = event.time.astimezone(UTC)
    envelope = {
        "specversion": "1.0",
        "id": _id_of(event),
        "source": source,
        "type": f"oautom.{event.name}",
        "subject": "/".join(map(_quoted, names)),
        "time": time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
    }
    return f'{to_json(envelope).decode()[:-1]},"data":{_data_of(event)}}}'


def _id_of(event: Event) -> str:
    """Return an id that is the same whenever this event is written, and unique among all events.

    A number alone would not do: logs in memory all begin with 1, and a Vect may have the id of a
    Vect of yesterday. No two of those happen in the same microsecond.
    """
    microseconds = (event.time - _EPOCH) // timedelta(microseconds=1)
    return f"{event.seq}-{microseconds}-{_quoted(event.vect)}"


def _quoted(name: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415 - only who writes CloudEvents pays for it

    return quote(name, safe="")


def _data_of(event: Event) -> str:
    try:
        return to_line(event)
    except LogError:
        data = {key: _kept(key, value) for key, value in event.data.items()}
        return to_line(msgspec.structs.replace(event, data=MappingProxyType(data)))


def _kept(key: str, value: object) -> object:
    if key == "graph":  # names only: JSON keeps it
        return value
    return _lossy(dict(value) if isinstance(value, Mapping) else value)


def _lossy(value: object, depth: int = 0) -> Any:
    """Return a value with the `repr()` in place of each part that JSON cannot store."""
    if is_json(value):
        return value
    if depth < _DEPTH_MAX:  # it may hold itself
        if type(value) is dict and all(isinstance(key, str) and is_json(key) for key in value):
            return {key: _lossy(part, depth + 1) for key, part in value.items()}
        if type(value) is list:
            return [_lossy(part, depth + 1) for part in cast("list[object]", value)]
    return readable(shown(value, _REPR_MAX))
