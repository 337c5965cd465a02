"""What attempts of steps write: the buffers that they write into, and the text that is shown of it.

A log that keeps this text has it beside its events, and not among them: see `EventLog.keep_text`.
"""

from __future__ import annotations

import codecs
import threading
from collections import deque
from typing import Final, NamedTuple

from oautom.processes import forked

UNSAVED_BYTES_MAX: Final = 64 * 2**10
"""How much of a text goes with the event that ends its attempt; the rest is written before."""

_CONTINUATION_BYTES_MAX: Final = 3  # that follow the first byte of a character of UTF-8
_LOOSE_MAX: Final = 8192  # characters that are not encoded yet


class Text(NamedTuple):
    """What is kept of all that an attempt has written.

    Attributes:
        missing_bytes: How much came before that, and is gone.
        content: The rest.
    """

    missing_bytes: int
    content: bytes

    def shown(self, *, is_whole: bool) -> str:
        """Return the text, as people read it; where something is missing, the first line says so.

        Args:
            is_whole: Nothing more will follow; else a character may not be complete yet.
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
        is_over: The attempt is over: nothing is written any more.
        dropped_bytes: How many bytes were written before those that are kept.
    """

    __slots__ = (
        "_chunks",
        "_lock",
        "_loose",
        "_loose_length",
        "_process",
        "_size_bytes",
        "dropped_bytes",
        "is_over",
        "limit_bytes",
    )

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.is_over = False
        self.dropped_bytes = 0
        self._chunks: deque[bytes] = deque()
        self._size_bytes = 0
        self._loose: deque[str] = deque()  # written behind the chunks, and not encoded yet
        self._loose_length = 0
        # Reentrant: what is collected, or a handler of a signal, may write in between.
        self._lock, self._process = threading.RLock(), forked.here

    def print(self, text: str) -> None:
        """Keep text; to encode it is left for later, since a program may print much, and often."""
        self._loose.append(text)
        self._loose_length += len(text)  # of two threads at once one may not count: it is a hint
        if self._loose_length > _LOOSE_MAX:
            self.write(b"")

    def write(self, chunk: bytes, missing_bytes: int = 0) -> None:
        """Keep `chunk`, and drop the oldest where it is too much.

        Args:
            chunk: What was written.
            missing_bytes: How much was written before it, and is gone already.
        """
        if not self._process.is_here:  # another thread of the parent may have had the lock
            self._lock, self._process = threading.RLock(), forked.here
        with self._lock:
            self._encode()
            if missing_bytes:
                self.dropped_bytes += self._size_bytes + missing_bytes
                self._chunks.clear()
                self._size_bytes = 0
            if chunk:
                self._add(chunk)

    def _encode(self) -> None:
        if not self._loose:
            return
        texts = []
        try:
            while True:  # others may append meanwhile
                texts.append(self._loose.popleft())
        except IndexError:
            self._loose_length = 0
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
        """How many bytes were written in all."""
        self.write(b"")
        with self._lock:
            return self._size_bytes + self.dropped_bytes

    def since(self, start: int, size_bytes: int) -> tuple[int, bytes]:
        """Return what was written from a place on, and where that begins.

        Args:
            start: How many bytes come before the first one wanted.
            size_bytes: How many are wanted at the most.
        """
        self.write(b"")
        with self._lock:
            first = max(start, self.dropped_bytes)
            at = first - self.dropped_bytes
            return first, self._joined()[at : at + size_bytes]

    def kept(self) -> Text:
        """Return what is kept."""
        self.write(b"")
        with self._lock:
            return Text(self.dropped_bytes, self._joined())

    def text(self) -> str:
        """Return what is kept, decoded; a character cut in two at the start is left out."""
        missing_bytes, content = self.kept()
        return decoded(content, is_cut=missing_bytes > 0, is_whole=True)

    def _joined(self) -> bytes:
        if len(self._chunks) > 1:
            self._chunks = deque([b"".join(self._chunks)])
        return self._chunks[0] if self._chunks else b""


def decoded(content: bytes, *, is_cut: bool, is_whole: bool) -> str:
    """Return bytes as text; a character that is cut in two by us, or not complete yet, is left out.

    Args:
        content: The bytes.
        is_cut: Others came before them.
        is_whole: No others follow.
    """
    if is_cut:
        start = content[:_CONTINUATION_BYTES_MAX].lstrip(bytes(range(0x80, 0xC0)))
        content = start + content[_CONTINUATION_BYTES_MAX:]
    return codecs.getincrementaldecoder("utf-8")("replace").decode(content, is_whole)
