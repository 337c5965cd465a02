"""The text of attempts: the buffer that an attempt writes to, and the text that people read.

A log stores texts beside its events, and not among them: see `EventLog.keep_text`.
"""

from __future__ import annotations

import codecs
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from oautom.processes import forked
from oautom.values.masking import Stream

UNSAVED_BYTES_MAX: Final = 64 * 2**10
"""How much of a text is written with the event that ends its attempt; the rest before that."""

LOOSE_MAX: Final = 8192
"""How many characters of a text may not be encoded yet."""

_CONTINUATION_BYTES_MAX: Final = 3  # that follow the first byte of a character of UTF-8


class Text(NamedTuple):
    """The newest part of what an attempt has written.

    Attributes:
        missing_bytes: The number of bytes before that part.
        content: The part itself.
    """

    missing_bytes: int
    content: bytes

    def shown(self, *, is_whole: bool) -> str:
        """Return the text as people read it; if something is missing, the first line says so.

        Args:
            is_whole: Nothing more will follow; else the last character may be incomplete.
        """
        text = decoded(self.content, is_cut=self.missing_bytes > 0, is_whole=is_whole)
        if not self.missing_bytes:
            return text
        return f"[{self.missing_bytes} bytes are missing here]\n{text}"


NO_TEXT: Final = Text(0, b"")


class LogBuffer:
    """The newest bytes that an attempt has written, at most `limit_bytes`. Any thread.

    Attributes:
        limit_bytes: See above.
        is_over: The attempt is over: it writes no more.
        dropped_bytes: The number of bytes before those in the buffer.
        loose: Texts behind those bytes that are not encoded yet, since a program may print much,
            and often. Append a text, add its length to `loose_length`, and call `write(b"")` when
            that exceeds `LOOSE_MAX`.
        loose_length: The number of characters in `loose`; approximate, as two threads may add to it
            at once.
    """

    __slots__ = (
        "_chunks",
        "_is_busy",
        "_lock",
        "_process",
        "_size_bytes",
        "dropped_bytes",
        "is_over",
        "limit_bytes",
        "loose",
        "loose_length",
    )

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.is_over = False
        self.dropped_bytes = 0
        self.loose: list[str] = []
        self.loose_length = 0
        self._chunks: deque[bytes] = deque()
        self._size_bytes = 0
        self._is_busy = False
        # Reentrant: what is collected, or a handler of a signal, may write in between.
        self._lock, self._process = threading.RLock(), forked.here

    def write(self, chunk: bytes, missing_bytes: int = 0) -> None:
        """Add a chunk, and drop the oldest bytes beyond the limit.

        Args:
            chunk: The bytes.
            missing_bytes: The number of bytes before the chunk that were dropped elsewhere.
        """
        if not self._process.is_here:  # another thread of the parent may have had the lock
            self._lock, self._process = threading.RLock(), forked.here
        with self._lock:
            if self._is_busy:  # something is collected in between, or a signal comes, that writes
                self.loose.append(chunk.decode(errors="replace"))
                return
            self._is_busy = True
            try:
                self._take(chunk, missing_bytes)
            finally:
                self._is_busy = False

    def _take(self, chunk: bytes, missing_bytes: int) -> None:
        self._encode()
        if missing_bytes:
            self.dropped_bytes += self._size_bytes + missing_bytes
            self._chunks.clear()
            self._size_bytes = 0
        if chunk:
            self._add(chunk)

    def _encode(self) -> None:
        if self.loose:
            texts = self.loose[:]
            del self.loose[: len(texts)]  # others may have appended meanwhile
            self.loose_length = 0
            self._add("".join(texts).encode(errors="replace"))

    def _add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size_bytes += len(chunk)
        while (excess := self._size_bytes - self.limit_bytes) > 0:
            oldest = self._chunks.popleft()
            if len(oldest) > excess:
                self._chunks.appendleft(oldest[excess:])
            dropped = min(len(oldest), excess)
            self._size_bytes -= dropped
            self.dropped_bytes += dropped

    @property
    def written_bytes(self) -> int:
        """How many bytes were written in all; a little less while another thread writes."""
        if self.loose or not self._process.is_here:
            self.write(b"")
        return self._size_bytes + self.dropped_bytes

    def since(self, start: int, size_bytes: int) -> tuple[int, bytes]:
        """Return the bytes from a position on, and the position where they begin.

        Args:
            start: The position of the first byte wanted.
            size_bytes: The largest number of bytes wanted.
        """
        if self.loose or not self._process.is_here:
            self.write(b"")
        with self._lock:
            first = max(start, self.dropped_bytes)
            at = first - self.dropped_bytes
            content = self._joined()
        return first, content[at : at + size_bytes] if at or len(content) > size_bytes else content

    def kept(self) -> Text:
        """Return what is in the buffer."""
        if self.loose or not self._process.is_here:
            self.write(b"")
        with self._lock:
            return Text(self.dropped_bytes, self._joined())

    def text(self) -> str:
        """Return what is in the buffer, decoded, without a character cut in two at its start."""
        missing_bytes, content = self.kept()
        return decoded(content, is_cut=missing_bytes > 0, is_whole=True)

    def finish(self) -> None:
        """Take in what is held back, at the end of a call of the step: here it is nothing."""

    def _joined(self) -> bytes:
        if len(self._chunks) > 1:
            self._is_busy = True
            self._chunks = deque([b"".join(self._chunks)])
            self._is_busy = False
        return self._chunks[0] if self._chunks else b""


class MaskedBuffer(LogBuffer):
    """A buffer with `***` in place of each secret: it masks what is written before it keeps it.

    Held back, and not in the buffer yet, is what may be the beginning of a secret.

    Args:
        limit_bytes: As of every buffer.
        patterns: Returns what is masked; more may come while the attempt runs.
    """

    __slots__ = ("_patterns", "_stream")

    def __init__(self, limit_bytes: int, patterns: Callable[[], Sequence[bytes]]) -> None:
        super().__init__(limit_bytes)
        self._patterns = patterns
        self._stream = Stream()

    def _take(self, chunk: bytes, missing_bytes: int) -> None:
        if missing_bytes:  # what is held back comes before a gap
            self._encode()
            super()._add(self._stream.rest())
        super()._take(chunk, missing_bytes)

    def _add(self, chunk: bytes) -> None:
        if masked := self._stream.feed(chunk, self._patterns()):
            super()._add(masked)

    def finish(self) -> None:
        """Take in what is held back."""
        self.write(b"")
        with self._lock:
            if rest := self._stream.rest():
                super()._add(rest)


def decoded(content: bytes, *, is_cut: bool, is_whole: bool) -> str:
    """Return bytes as text, without a character that is cut in two or not complete yet.

    Args:
        content: The bytes.
        is_cut: Whether bytes before them are missing.
        is_whole: Whether no bytes will follow.
    """
    if is_cut:
        start = content[:_CONTINUATION_BYTES_MAX].lstrip(bytes(range(0x80, 0xC0)))
        content = start + content[_CONTINUATION_BYTES_MAX:]
    return codecs.getincrementaldecoder("utf-8")("replace").decode(content, is_whole)
