"""Masking: the same whatever the chunks are, and held back only what may be a secret."""

from __future__ import annotations

import json
import shlex
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oautom.values.masking import CHARACTERS_MIN, Masker, Stream

VALUE = "s3cr'et \"Ü\\.*+[value]"
FEW = st.binary(max_size=30).map(lambda content: bytes(b"abc"[each % 3] for each in content))


def masked_slowly(content: bytes, patterns: list[bytes]) -> bytes:
    """The definition: each byte of each occurrence is masked, and masks that touch are one."""
    hidden = {
        at + each
        for pattern in patterns
        for at in range(len(content) - len(pattern) + 1)
        if content.startswith(pattern, at)
        for each in range(len(pattern))
    }
    told = b""
    for at in range(len(content)):
        if at not in hidden:
            told += content[at : at + 1]
        elif at - 1 not in hidden:
            told += b"***"
    return told


@given(st.lists(FEW, max_size=8), st.lists(FEW.filter(bool), min_size=1, max_size=4))
def test_chunks_are_masked_as_their_whole_is(chunks: list[bytes], patterns: list[bytes]) -> None:
    stream = Stream()
    told = b"".join(stream.feed(chunk, patterns) for chunk in chunks)
    assert told == masked_slowly(b"".join(chunks), patterns)[: len(told)]
    told += stream.feed(b"\n", patterns) + stream.rest()  # a newline ends all beginnings
    assert told == masked_slowly(b"".join(chunks) + b"\n", patterns)


@given(st.lists(FEW, max_size=8), FEW.filter(bool))
def test_only_the_beginning_of_a_secret_is_held_back(chunks: list[bytes], pattern: bytes) -> None:
    stream = Stream()
    for at, chunk in enumerate(chunks):
        stream.feed(chunk, [pattern])
        whole = b"".join(chunks[: at + 1])
        beginnings = (n for n in range(len(pattern)) if whole.endswith(pattern[:n]))
        assert len(stream._pending) == max(beginnings)


def test_at_the_end_the_larger_half_of_a_secret_counts_as_one() -> None:
    for size in range(1, 10):
        stream = Stream()
        told = stream.feed(b"it is " + b"0123456789"[:size], [b"0123456789"]) + stream.rest()
        assert told == b"it is " + (b"***" if size >= 5 else b"0123456789"[:size])


FORMS = {
    "as it is": str,
    "JSON": json.dumps,
    "JSON in UTF-8": lambda value: json.dumps(value, ensure_ascii=False),
    "msgspec": lambda value: msgspec.json.encode(value).decode(),
    "repr": repr,
    "repr of bytes": lambda value: repr(value.encode()),
    "shell": shlex.quote,
    "in a dictionary": lambda value: repr({value: [value]}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [VALUE, "simple value", "two\tparts\x00é", "it's", 'say "no" 6'])
def test_each_form_of_a_secret_is_masked(form: str, value: str) -> None:
    told = Masker({f"-{value}-": "K"}).text(f"<{FORMS[form](f'-{value}-')}>")
    for part in (value, value[2:], "parts", "imple", "it", "say"):
        assert part not in told
    assert "***" in told


def test_each_line_of_a_secret_is_masked_that_is_long_enough() -> None:
    masker = Masker({"first line\r\nshort\n  third line \n": "K"})
    assert masker.text("a first line, short, third line.") == "a ***, short, ***."
    assert masker.found(b"only the third line") == "K"
    assert len("short") < CHARACTERS_MIN


def test_half_characters_and_text_without_a_secret_come_back_as_they_are() -> None:
    masker = Masker({VALUE: "K"})
    text = "a\ud800b" * 3
    assert masker.text(text) is text
    assert masker.text(text + VALUE) == text + "***"


class Slotted:
    __slots__ = ("empty", "told")

    def __init__(self, told: Any) -> None:
        self.told = told


@dataclass
class Data:
    told: Any


class Struct(msgspec.Struct):
    told: Any


class Bad:
    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no")


def looped() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: value,
        lambda value: value.encode(),
        lambda value: bytearray(value.encode()),
        lambda value: [1, (2, {3: value})],
        lambda value: {value: 1},
        lambda value: {("a", value): 1},
        lambda value: {value},
        lambda value: frozenset({value}),
        lambda value: OrderedDict(a=value),
        lambda value: MappingProxyType({"a": value}),
        lambda value: SimpleNamespace(a=[value]),
        Slotted,
        Data,
        Struct,
        lambda value: Data(Slotted([Struct({1: Data(value)})])),
        lambda value: ValueError("a", value),
        lambda value: [object(), Bad(), looped(), value],
        lambda value: type(f"A{value}", (), {}),
        lambda value: msgspec.Raw(json.dumps(value).encode()),
        lambda value: type("Text", (str,), {})(value),
    ],
)
def test_a_value_that_contains_a_secret_is_found(wrap: Any) -> None:
    assert Masker({VALUE: "K"}).found_in(wrap(VALUE)) == "K"
    assert Masker({VALUE: "K"}).found_in(wrap("no value at all")) is None


def test_a_number_and_a_path_are_searched_as_text() -> None:
    masker = Masker({"123456": "PIN", "/srv/hidden": "PATH"})
    assert masker.found_in([{"a": 91234567}]) == "PIN"
    assert masker.found_in(10**5000) is None
    assert masker.found_in({"a": Path("/srv/hidden/file")}) == "PATH"
