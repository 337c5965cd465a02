"""Masking: takes secrets out of texts, in one piece or chunk by chunk. Pure.

A secret is found in each of its *forms*: as it is; as it stands in a text of JSON, in the `repr()`
of a text or of bytes, and between the single quotes of a shell; and, if it has several lines, each
of these in the same forms. All work is done on bytes in UTF-8, so that a character which two chunks
share needs no thought. Other encodings, such as base64, are not found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Final

import msgspec

from oautom.values.json import SCALARS

CHARACTERS_MIN: Final = 6
"""How many characters a secret has, and a line of one that is masked; spaces around do not count.

A shorter one would be found everywhere.
"""

_MASK: Final = b"***"
_ANCHOR_BYTES: Final = 8
_LEAVES: Final[frozenset[Any]] = frozenset({type(None), bool})

Pattern = bytes
Span = tuple[int, int]

_encode = msgspec.json.Encoder().encode


class Masker:
    """Takes the values of some secrets out of texts, and finds them in values. Immutable.

    Args:
        names: The name of each secret, by its value.

    Attributes:
        names: See above.
        patterns: All that is masked, the longest first.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = dict(names)
        self._name_by_pattern: dict[Pattern, str] = {}
        for value, name in self.names.items():
            for pattern in _forms(value):
                self._name_by_pattern.setdefault(pattern, name)
        self.patterns: Sequence[Pattern] = sorted(self._name_by_pattern, key=len, reverse=True)

    def masked(self, content: bytes) -> bytes:
        """Return bytes with `***` in place of each secret; those that touch become one."""
        if not any(pattern in content for pattern in self.patterns):
            return content
        stream = Stream()
        return stream.feed(content, self.patterns) + stream.rest()

    def text(self, text: str) -> str:
        """Return a text as `masked` does bytes."""
        content = _bytes_of(text)
        masked = self.masked(content)
        return text if masked is content else masked.decode(errors="surrogatepass")

    def found(self, content: bytes) -> str | None:
        """Return the name of a secret that bytes contain, or None."""
        for pattern in self.patterns:
            if pattern in content:
                return self._name_by_pattern[pattern]
        return None

    def found_in(self, value: object) -> str | None:
        """Return the name of a secret that a value contains, or None. Never raises.

        Searched are the value as JSON, if it has such a form, and its parts at any depth: the keys
        and values of mappings, the items of collections, the attributes of other objects.
        """
        seen_through: frozenset[Any] = _LEAVES
        try:
            name = self.found(_encode(value))
            seen_through = SCALARS  # all of these are in that JSON; bytes are, in base64
        except Exception:  # whatever a user's class raises
            name = None
        seen: dict[int, object] = {}  # it keeps them alive: else a number would be used again
        left = [value]
        while left and name is None:
            part = left.pop()
            if type(part) in seen_through or id(part) in seen:
                continue
            content = _content_of(part)
            if content is not None:
                name = self.found(content)
                continue
            seen[id(part)] = part
            try:
                left += [each for each in _parts_of(part) if type(each) not in seen_through]
            except Exception:  # noqa: S112 - as above
                continue
        return name


NO_MASKER: Final = Masker({})


class Stream:
    """Masks bytes that come in chunks, and holds back only what may be the beginning of a secret.

    Not for several threads at once.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._spans: list[Span] = []  # all positions are those in `_pending`
        self._begun: list[tuple[Pattern, int]] = []
        self._masked_upto = -1  # a mask that was given out stands for the bytes before this

    def feed(self, chunk: bytes, patterns: Iterable[Pattern]) -> bytes:
        """Take a chunk; return the masked bytes that are certain by now.

        Args:
            chunk: The next bytes.
            patterns: What is masked. It may grow from chunk to chunk.
        """
        before = len(self._pending)
        self._pending += chunk
        begun = [each for each in self._begun if self._goes_on(*each, before, chunk)]
        for pattern in patterns:
            size = len(pattern)
            at = chunk.find(pattern)
            while at >= 0:
                self._spans.append((before + at, before + at + size))
                at = chunk.find(pattern, at + 1)
            begun += [(pattern, before + at) for at in _beginnings(chunk, pattern)]
        self._begun = begun
        return self._given(min((at for _, at in begun), default=len(self._pending)))

    def _goes_on(self, pattern: Pattern, start: int, before: int, chunk: bytes) -> bool:
        """Whether a beginning goes on through a whole chunk; if it is complete, note its span."""
        had = before - start
        wanted = pattern[had : had + len(chunk)]
        if not chunk.startswith(wanted):
            return False
        if had + len(wanted) < len(pattern):
            return True
        self._spans.append((start, start + len(pattern)))
        return False

    def rest(self) -> bytes:
        """Return what is held back: nothing follows. Most of a secret counts as the secret."""
        end = len(self._pending)
        self._spans += [
            (at, end) for pattern, at in self._begun if 2 * (end - at) >= len(pattern) > 0
        ]
        self._begun = []
        return self._given(end)

    def _given(self, upto: int) -> bytes:
        """Return the bytes before a position, masked, and drop them."""
        given = bytearray()
        last = self._masked_upto
        for start, end in sorted(self._spans):
            if start >= upto:
                break
            if start > last:
                given += self._pending[max(last, 0) : start]
                given += _MASK
            last = max(last, end)
        if last < upto:
            given += self._pending[max(last, 0) : upto]
        del self._pending[:upto]
        self._spans = [(start - upto, end - upto) for start, end in self._spans if start >= upto]
        self._begun = [(pattern, at - upto) for pattern, at in self._begun]
        self._masked_upto = last - upto if last >= upto else -1
        return bytes(given)


def _beginnings(chunk: bytes, pattern: Pattern) -> Iterator[int]:
    """Yield each position from which on a chunk is the beginning of a longer pattern."""
    first = max(0, len(chunk) - len(pattern) + 1)
    anchor = pattern[:_ANCHOR_BYTES]
    at = chunk.find(anchor, first)
    while at >= 0:
        if pattern.startswith(chunk[at:]):
            yield at
        at = chunk.find(anchor, at + 1)
    for at in range(max(first, len(chunk) - len(anchor) + 1), len(chunk)):
        if pattern.startswith(chunk[at:]):
            yield at


def _forms(value: str) -> Iterator[Pattern]:
    """Yield each form of a secret, as bytes."""
    for part in dict.fromkeys([value, value.strip(), *map(str.strip, value.splitlines())]):
        if len(part.strip()) < CHARACTERS_MIN:
            continue
        content = _bytes_of(part)
        yield content
        yield _bytes_of(json.dumps(part)[1:-1])
        yield _bytes_of(json.dumps(part, ensure_ascii=False)[1:-1])
        yield _bytes_of(repr(part)[1:-1])
        yield repr(content)[2:-1].encode()
        yield content.replace(b"'", rb"'\''")  # as Bash writes it
        yield content.replace(b"'", b"'\"'\"'")  # as Python's `shlex` does


def _bytes_of(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # of half characters, too: nothing raises here


def _content_of(part: Any) -> bytes | None:
    """Return a part that is text, bytes or a number as bytes; None for any other."""
    kind = type(part)
    if issubclass(kind, str):
        return _bytes_of(str.__str__(part))
    if issubclass(kind, bytes | bytearray):
        return bytes(part)
    if issubclass(kind, int):
        return b"" if int.bit_length(part) > _NUMBER_BITS_MAX else str(int.__int__(part)).encode()
    return None


_NUMBER_BITS_MAX: Final = 10_000  # a longer one is no text of Python

_COLLECTIONS: Final[Sequence[tuple[type, Callable[[Any], Iterator[Any]]]]] = (
    (list, list.__iter__),
    (tuple, tuple.__iter__),
    (set, set.__iter__),
    (frozenset, frozenset.__iter__),
)


def _parts_of(part: Any) -> list[Any]:
    """Return what a value is made of; it may raise whatever a user's class raises."""
    kind = type(part)
    if issubclass(kind, ModuleType):  # it leads to the whole program
        return []
    if issubclass(kind, type):
        return [part.__name__]
    found: list[Any] = []
    for base, items in _COLLECTIONS:
        if issubclass(kind, base):
            found += items(part)
    if issubclass(kind, dict):
        found += [*dict.keys(part), *dict.values(part)]
    elif issubclass(kind, Mapping):
        found += [each for item in part.items() for each in item]
    if hasattr(kind, "__fspath__"):
        found.append(part.__fspath__())
    if issubclass(kind, BaseException):
        found += [part.args, part.__cause__, part.__context__, getattr(part, "exceptions", None)]
    found += getattr(part, "__dict__", {}).values()
    slots = [name for base in kind.__mro__ for name in _slots_of(base)]
    slots += getattr(kind, "__struct_fields__", ())
    missing = object()
    values = (getattr(part, name, missing) for name in slots)
    return found + [each for each in values if each is not missing]


def _slots_of(base: type) -> Sequence[str]:
    slots = base.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
