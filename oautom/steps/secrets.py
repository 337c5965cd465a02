"""`Secrets`: the secrets that an attempt gets, and all that keeps them out of what is stored.

A value is fetched where the step runs, when its arguments are made. From then on the attempt masks
it: in the text that it writes (`buffer`), in what goes on to the streams of the program
(`pass_on`) and to handlers of `logging` (`record`), and in the texts of errors
(`no_secrets_in_errors`). `values.masking` finds it; nothing else does.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from oautom.errors import MASK
from oautom.events.texts import LogBuffer, MaskedBuffer
from oautom.values.json import at_heart
from oautom.values.masking import CHARACTERS_MIN, NO_MASKER, Masker, Stream
from oautom.values.names import is_unicode
from oautom.values.references import UnresolvedError
from oautom.values.text import error_of, name_of

KNOWN_MAX: Final = 50
"""How many values a Vect knows at most: a callable may give another one each time."""

_formatter = logging.Formatter()


class SecretSource(NamedTuple):
    """Where the values of secrets come from.

    Attributes:
        find: Returns the value of the secret of a name; None for the environment.
        ships: Whether a value travels to a step that runs in another process.
    """

    find: Callable[[str], Any] | None = None
    ships: bool = False


ENVIRONMENT: Final = SecretSource()
NO_VALUES: Final[Mapping[str, str]] = MappingProxyType({})


class NotFoundError(UnresolvedError):
    """A secret has no value, or none that can be kept secret. Never leaves oautom."""


class Known:
    """The secrets that the attempts of a Vect have got in this process. Any thread.

    A step may print what an earlier one has written to a file.

    Attributes:
        masker: It masks all of them; the oldest are forgotten beyond `KNOWN_MAX`.
    """

    def __init__(self) -> None:
        self.masker = NO_MASKER
        self._lock = threading.Lock()

    def add(self, name: str, value: str) -> None:
        """Note the value of a secret."""
        with self._lock:
            names = self.masker.names
            if value not in names:
                newest = list(names.items())[1 - KNOWN_MAX :]
                self.masker = Masker({**dict(newest), value: name})


class Secrets:
    """The secrets of one attempt. In another process it is a copy, which fetches them there.

    Args:
        flow: Name of the flow.
        known: Those of the whole Vect.
        source: Where values come from.
        own: The values that have come along, by the names of the secrets.
        is_elsewhere: Whether the step runs in another process than its engine.
    """

    def __init__(
        self,
        flow: str,
        known: Known,
        source: SecretSource = ENVIRONMENT,
        own: Mapping[str, str] = NO_VALUES,
        *,
        is_elsewhere: bool = False,
    ) -> None:
        self.flow = flow
        self._known = known
        self._source = source
        self._is_elsewhere = is_elsewhere
        self._own: dict[str, str] = {}
        self._masker = self._known_masker = NO_MASKER
        self._streams: dict[object, tuple[Stream, Callable[[bytes], Any]]] = {}
        self._lock = threading.RLock()  # see `_is_busy`
        self._is_busy = False
        for name, value in own.items():
            self._note(name, value)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel to another process: with the values only if the app says so."""
        return _revive, (self.flow, dict(self._own) if self._source.ships else {})

    def value(self, name: str) -> str:
        """Return the value of a secret, fetched once for each attempt.

        Raises:
            NotFoundError: There is none, or it cannot be kept secret.
            BaseException: What the callable of the app has raised, with a note that names it.
        """
        if name not in self._own:
            value = at_heart(self._found(name))
            if problem := _problem_of(name, value):
                raise NotFoundError(problem)
            self._note(name, value)
        return self._own[name]

    def _found(self, name: str) -> Any:
        if self._source.find is not None:
            return self._source.find(name)
        if (value := os.environ.get(name)) is not None:
            return value
        if self._is_elsewhere:
            raise NotFoundError(
                f"the environment of its worker has no variable {name!r}; set it there, or have "
                "the value sent from here: OAutom(ship_secrets=True)"
            )
        raise NotFoundError(
            f"the environment of this program has no variable {name!r}; set it, or give "
            "OAutom(secrets=...) a function that returns it"
        )

    def _note(self, name: str, value: str) -> None:
        self._own[name] = value
        self._known.add(name, value)

    def fetch(self, names: Iterable[str]) -> None:
        """Fetch the values of some secrets now; errors as of `value`."""
        for name in names:
            self.value(name)

    @property
    def must_travel(self) -> bool:
        """Whether the values must be there before the step is sent to another process."""
        return self._source.ships

    @property
    def is_asked_for(self) -> bool:
        """Whether a callable of the app gives the values."""
        return self._source.find is not None

    @property
    def masker(self) -> Masker:
        """It masks the secrets of the attempt, and those of its Vect that are known here."""
        known = self._known.masker
        if known is not self._known_masker:
            own = {value: name for name, value in self._own.items()}
            is_all = own.keys() <= known.names.keys()
            self._masker = known if is_all else Masker({**known.names, **own})
            self._known_masker = known
        return self._masker

    def mask(self, text: str) -> str:
        """Return a text with `***` in place of each secret."""
        return self.masker.text(text)

    def buffer(self, limit_bytes: int) -> LogBuffer:
        """Return a buffer that masks what is written to it."""
        return MaskedBuffer(limit_bytes, lambda: self.masker.patterns)

    def pass_on(self, source: object, chunk: bytes, write: Callable[[bytes], Any]) -> None:
        """Write the part of a chunk that is certain by now, masked.

        Each source is masked apart: what comes between from another one hides no secret.

        Args:
            source: The stream of the program, or the pipe of the command, that the chunk is from.
            chunk: What the step writes there.
            write: Writes it; at the end, `end_streams` calls it with what is held back.
        """
        with self._lock:
            if self._is_busy:  # a handler of a signal writes in between
                masked = self.masker.masked(chunk)
            else:
                self._is_busy = True
                try:
                    stream, _ = self._streams.setdefault(source, (Stream(), write))
                    masked = stream.feed(chunk, self.masker.patterns)
                finally:
                    self._is_busy = False
        if masked:
            write(masked)

    def end_streams(self) -> None:
        """Write what is held back."""
        with self._lock:
            streams, self._streams = self._streams, {}
        for stream, write in streams.values():
            if rest := stream.rest():
                with suppress(Exception):  # the stream was closed, or is an object of the user
                    write(rest)

    def record(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return a masked copy of a record: of its message, its traceback and its other texts."""
        masked = copy.copy(record)
        try:
            masked.msg = self.mask(record.getMessage())
        except Exception:  # a wrong format: the handlers report that, and quote all of it
            masked.msg = f"(a message of logger {record.name!r} that cannot be formatted)"
        masked.args = None
        if record.exc_info and not record.exc_text:
            with suppress(Exception):  # the methods of the exception are the user's
                masked.exc_text = _formatter.formatException(record.exc_info)
        masked.exc_info = None
        masker = self.masker
        for name, value in masked.__dict__.items():
            if type(value) is str:
                masked.__dict__[name] = self.mask(value)
            elif masker.found_in(value) is not None:
                masked.__dict__[name] = "***"
        return masked


def _revive(flow: str, own: Mapping[str, str]) -> Secrets:
    return Secrets(flow, Known(), own=own, is_elsewhere=True)


@contextmanager
def no_secrets_in_errors(secrets: Secrets | None) -> Iterator[None]:
    """Mask the texts of errors that are made meanwhile on this thread."""
    token = MASK.set(None if secrets is None else secrets.mask)
    try:
        yield
    finally:
        MASK.reset(token)


def _problem_of(name: str, value: object) -> str:
    """Return why a value cannot be a secret; never shows it."""
    if type(value) is not str:
        kind = name_of(type(value))
        return f"secrets({name!r}) has returned no text, but an object of class {kind}"
    if not is_unicode(value):
        return "its value is not valid Unicode; encode it, for example in base64"
    if len(value.strip()) < CHARACTERS_MIN:
        return (
            f"its value has fewer than {CHARACTERS_MIN} characters, spaces around it not counted, "
            "and would be masked wherever these stand; use a longer one"
        )
    return ""


def why_not_found(name: str, error: BaseException) -> str:
    """Return the clause of an error for a secret that could not be fetched."""
    if isinstance(error, NotFoundError):
        return str(error)
    return f"secrets({name!r}) has raised {error_of(error)}"
