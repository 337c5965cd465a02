"""What attempts write: the buffer, and what is shown of it."""

from __future__ import annotations

import threading

import pytest

from oautom.events.texts import LogBuffer, Text


def test_what_was_written_is_kept_in_order() -> None:
    buffer = LogBuffer(100)
    for part in (b"one ", b"two ", b"three"):
        buffer.write(part)

    assert buffer.text() == "one two three"
    assert buffer.dropped_bytes == 0


def test_to_read_takes_nothing_away() -> None:
    buffer = LogBuffer(100)
    buffer.write(b"one ")
    assert buffer.text() == "one "

    buffer.write(b"two")
    assert buffer.text() == buffer.text() == "one two"


@pytest.mark.parametrize("part_bytes", [1, 2, 3, 7, 10, 11, 64, 1000])
@pytest.mark.parametrize("limit", [1, 7, 10, 100])
def test_the_newest_bytes_are_kept_however_they_come(part_bytes: int, limit: int) -> None:
    whole = bytes(ord("a") + i % 26 for i in range(1000))
    buffer = LogBuffer(limit)
    for start in range(0, len(whole), part_bytes):
        buffer.write(whole[start : start + part_bytes])
        assert buffer._size_bytes == sum(map(len, buffer._chunks)) <= limit

    assert buffer.text() == whole[-limit:].decode()
    assert buffer.dropped_bytes == len(whole) - limit


def test_exactly_the_limit_is_kept_whole() -> None:
    buffer = LogBuffer(3)
    buffer.write(b"abc")

    assert (buffer.text(), buffer.dropped_bytes) == ("abc", 0)


def test_nothing_written_takes_no_memory() -> None:
    buffer = LogBuffer(10)
    for _ in range(1000):
        buffer.write(b"")

    assert len(buffer._chunks) <= 1


@pytest.mark.parametrize("dropped", range(1, 9))
def test_a_character_that_was_cut_in_two_is_left_out(dropped: int) -> None:
    whole = "€€ä𝄞x"  # of 3, 3, 2, 4 and 1 bytes
    encoded = whole.encode()
    buffer = LogBuffer(len(encoded) - dropped)
    buffer.write(encoded)

    assert "\ufffd" not in buffer.text()
    assert whole.endswith(buffer.text())
    assert len(buffer.text().encode()) > len(encoded) - dropped - 4


def test_of_bytes_that_are_no_text_no_more_than_a_character_is_left_out() -> None:
    buffer = LogBuffer(1000)
    buffer.write(b"\x80" * 5000)

    assert len(buffer.text()) >= 997


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    buffer = LogBuffer(100)
    buffer.write(b"a\xffb")

    assert buffer.text() == "a\ufffdb"


def test_what_is_collected_or_a_signal_may_write_while_something_is_written() -> None:
    class Busy(LogBuffer):
        def _add(self, chunk: bytes) -> None:
            if chunk.startswith(b"one"):
                self.write(b"in between ")
            super()._add(chunk)

    buffer = Busy(100)
    buffer.loose.append("first ")
    buffer.write(b"one ")
    buffer.write(b"two ")

    assert buffer.text() == "first one in between two "


def test_what_another_process_has_dropped_is_missing_here_as_well() -> None:
    buffer = LogBuffer(100)
    buffer.write(b"one")
    buffer.write(b"three", 4)

    assert buffer.kept() == (7, b"three")
    assert buffer.written_bytes == 12


def test_what_was_written_from_a_place_on() -> None:
    buffer = LogBuffer(5)
    buffer.loose.append("0123456789")

    assert buffer.since(0, 100) == (5, b"56789")
    assert buffer.since(7, 2) == (7, b"78")
    assert buffer.since(10, 100) == (10, b"")


def test_texts_that_many_threads_write_are_all_there() -> None:
    buffer = LogBuffer(2**20)

    def write(name: str) -> None:
        for number in range(500):
            buffer.loose.append(f"{name}{number},")
            if number % 7 == 0:
                buffer.write(b"")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    words = buffer.text().split(",")[:-1]
    assert sorted(words) == sorted(f"{name}{number}" for name in "abcd" for number in range(500))
    for name in "abcd":
        assert [w for w in words if w[0] == name] == [f"{name}{n}" for n in range(500)]


@pytest.mark.parametrize(
    ("text", "is_whole", "shown"),
    [
        (Text(0, b""), True, ""),
        (Text(0, "\u20ac".encode()[:2]), False, ""),
        (Text(0, "\u20ac".encode()[:2]), True, "\ufffd"),
        (Text(0, b"\xff."), False, "\ufffd."),
        (Text(3, b"\x82\xac."), True, "[3 bytes are missing here]\n."),
    ],
)
def test_what_people_read(text: Text, is_whole: bool, shown: str) -> None:
    assert text.shown(is_whole=is_whole) == shown
