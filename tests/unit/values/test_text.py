"""Texts of others: bounded, without control characters, and told whatever they do."""

from __future__ import annotations

import re
import tracemalloc
from typing import Any

import pytest

from oautom.values.json import to_json
from oautom.values.text import (
    DETAIL_BYTES_MAX,
    DETAILS_BYTES_MAX,
    DETAILS_MAX,
    ERROR_BYTES_MAX,
    bounded,
    details_of,
    error_of,
    in_lines,
    in_one_line,
    message_of,
    shortened,
    traceback_of,
)

LONG = [
    "x" * 1_000_000,
    "é" * 100_000,
    "\N{PILE OF POO}" * 60_000,
    "\0" * 100_000,
    "\ud800" * 100_000,
    "line\n" * 100_000,
    "a\x1b[31m\n" * 50_000,
]


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize("fit", [in_one_line, in_lines])
def test_of_a_long_text_head_and_tail_are_kept(text: str, fit: Any) -> None:
    kept = bounded(text, ERROR_BYTES_MAX, fit)

    assert ERROR_BYTES_MAX * 0.8 < len(kept.encode()) <= ERROR_BYTES_MAX
    head, left, tail = re.split(r" \.\.\. (\d+) characters left out \.\.\. ", kept)
    assert fit(text[: len(text) // 2]).startswith(head)
    assert fit(text[len(text) // 2 :]).endswith(tail)
    assert 0 < int(left) < len(text)


def test_what_is_left_out_is_counted() -> None:
    kept = bounded("a" * 600 + "b" * 500, 1000)
    head, left, tail = kept.split(" ... ")

    assert len(head) + len(tail) + int(left.split()[0]) == 1100
    assert (head, tail) == ("a" * len(head), "b" * len(tail))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("as it is", "as it is"),
        ("two\nlines\r\nand\rmore", "two lines and more"),
        ("bell\a and \x1b[31mred", r"bell\x07 and \x1b[31mred"),
        ("tab\tnul\0", r"tab\tnul\x00"),
        ("half \ud800", r"half \ud800"),
        ("back\u202ewards", r"back\u202ewards"),
        ("é ✓ \N{PILE OF POO}", "é ✓ \N{PILE OF POO}"),
        ("", ""),
    ],
)
def test_a_text_in_one_line_has_nothing_that_a_terminal_obeys(text: str, told: str) -> None:
    assert in_one_line(text) == told
    assert in_one_line(told) == told


def test_a_text_of_lines_keeps_them() -> None:
    assert in_lines("a\r\nb\n\tc\x1b") == "a\nb\n\\tc\\x1b"


class Silent(Exception):  # noqa: N818 - its name is short
    def __str__(self) -> str:
        raise SystemExit


class NoText(Exception):  # noqa: N818 - as above
    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class TextOfMine(str):
    __slots__ = ()

    def splitlines(self, keepends: bool = False) -> Any:
        raise RuntimeError("mine")


class Odd(Exception):  # noqa: N818 - as above
    def __str__(self) -> str:
        return TextOfMine("odd")


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class Nameless(Exception, metaclass=Meta):  # noqa: N818 - as above
    pass


def test_an_exception_is_told_whatever_it_does() -> None:
    assert error_of(ValueError("a\nb")) == "ValueError: a b"
    assert error_of(ValueError()) == "ValueError"
    assert error_of(Silent()) == "Silent: (its message cannot be printed: SystemExit)"
    assert error_of(NoText()) == "NoText: (its message cannot be printed: TypeError)"
    assert error_of(Odd()) == "Odd: odd"
    assert error_of(Nameless("x")) == "Nameless: x"
    assert message_of(KeyError("k")) == "'k'"


def raised(error: BaseException) -> BaseException:
    try:
        raise error  # noqa: TRY301 - this is what it is for
    except BaseException as caught:
        return caught


HOSTILE = [Silent(), NoText(), Odd(), Nameless("x"), ExceptionGroup("g", [Silent(), ValueError()])]


@pytest.mark.parametrize("error", HOSTILE, ids=lambda error: type.mro(type(error))[0].__qualname__)
def test_a_traceback_names_the_line_whatever_the_exception_does(error: BaseException) -> None:
    assert "in raised" in traceback_of(raised(error))


def test_a_traceback_tells_what_an_exception_comes_of() -> None:
    error = raised(ValueError("late"))
    error.__cause__ = raised(KeyError("early"))

    told = traceback_of(error)

    assert told.index("KeyError: 'early'") < told.index("ValueError: late")
    assert told.endswith("ValueError: late\n")


def test_a_traceback_is_bounded_in_every_way() -> None:
    chain: BaseException = ValueError("first")
    for i in range(5000):
        later = ValueError(i)
        later.__context__ = chain
        chain = later
    group = ExceptionGroup("many", [ValueError(i) for i in range(100_000)])

    for error in (chain, group, ValueError("x" * 1_000_000), recursion()):
        told = traceback_of(error)
        assert len(told.encode()) <= DETAIL_BYTES_MAX
        assert type.mro(type(error))[0].__name__ in told


def recursion() -> BaseException:
    def again(n: int) -> None:
        again(n + 1) if n % 2 else again(n + 3)

    try:
        again(0)
    except RecursionError as error:
        return error
    raise AssertionError


def test_a_huge_message_is_not_formatted_as_a_whole() -> None:
    """Some hundreds of megabytes must not be copied once more for each line that tells them."""
    error = raised(ValueError("x" * 50_000_000))
    tracemalloc.start()
    try:
        told = error_of(error), traceback_of(error)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert [len(text) < 70_000 for text in told] == [True, True]
    assert peak < 5_000_000


class Unshown:
    def __repr__(self) -> str:
        raise SystemExit


def test_any_value_is_told_in_a_line() -> None:
    deep: Any = []
    for _ in range(10_000):
        deep = [deep]

    assert shortened({1, 2}) == "{1, 2}"
    assert shortened(Unshown()).startswith("<Unshown instance at") or "raises" in shortened(
        Unshown()
    )
    assert len(shortened("x" * 10**7, 500)) <= 500
    assert len(shortened([["x" * 10**6] * 100] * 10**6)) <= DETAIL_BYTES_MAX
    assert shortened(deep)
    assert shortened(10**5000)


# Details


def test_details_are_plain_and_our_own() -> None:
    rows = [1, {"a": None}]
    kept = details_of({"rows": rows, "code": True, "ratio": 0.5, "text": "é"})
    rows.append(2)

    assert kept == {"rows": [1, {"a": None}], "code": True, "ratio": 0.5, "text": "é"}


def test_a_detail_that_json_cannot_keep_is_told_as_text() -> None:
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    kept = details_of({"seen": {1, 2}, "bad": Unshown(), "deep": deep, "nan": float("nan")})

    assert kept["seen"] == "{1, 2}"
    assert kept["nan"] == "nan"
    assert all(type(value) is str for value in kept.values())
    to_json(kept)


def test_a_detail_keeps_its_name_whatever_that_is() -> None:
    kept = details_of({"error": 1, "output": 2, "delay": 3, "details": 4})

    assert kept == {"error": 1, "output": 2, "delay": 3, "details": 4}


def test_details_are_bounded_in_number_and_size() -> None:
    many = details_of({f"n{i}": i for i in range(1000)})
    large = details_of({f"n{i}": "x" * 10**6 for i in range(50)})
    long = details_of({"n" * 10**6: [0] * 10**6})

    assert len(many) == DETAILS_MAX + 1
    assert many["details_left_out"] == 1000 - DETAILS_MAX
    assert len(to_json(large)) < DETAILS_BYTES_MAX + 50 * 500
    assert len(large["n0"]) > DETAIL_BYTES_MAX - 100
    assert [len(key) <= 200 for key in long] == [True]
    assert len(to_json(long)) <= 2 * DETAIL_BYTES_MAX


class BadMapping(dict[str, Any]):
    def items(self) -> Any:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "given", [3, "text", ["a"], None, {}, {1: 2}, BadMapping(a=1), Unshown(), {"\ud800\x1b": 1}]
)
def test_details_may_be_anything(given: Any) -> None:
    kept = details_of(given)

    to_json(kept)
    assert all(type(key) is str and key.isprintable() for key in kept)
    assert bool(kept) == bool(given)
