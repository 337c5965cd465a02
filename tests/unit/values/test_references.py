"""References by themselves: where they lead, what they say, and how they travel."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import pytest

from oautom.values.references import OutputReference, ParamReference, UnresolvedError, part_of


@dataclass
class Point:
    x: int

    @property
    def secret(self) -> int:
        return 42


class Odd:
    def __getitem__(self, key: object) -> object:
        raise SystemError("not today")

    def __repr__(self) -> str:
        return "Odd\nover two lines"


def test_a_reference_leads_to_its_part() -> None:
    value = {"k": [Point(3), "text"]}
    reference = OutputReference(None, "a")["k"][0]["x"]

    assert reference.path == ("k", 0, "x")
    assert reference.resolve({"a": value}, {}) == 3
    assert ParamReference(None, "p")["k"].resolve({}, {"p": value}) is value["k"]
    assert OutputReference(None, "a").resolve({"a": value}, {}) is value


def test_a_part_is_a_new_reference() -> None:
    whole = OutputReference(None, "a")
    part = whole["k"]

    assert type(part) is OutputReference
    assert (whole.path, part.path, part.name) == ((), ("k",), "a")


@pytest.mark.parametrize(
    ("value", "key"),
    [({}, "k"), ([], 0), (Point(3), "y"), (Point(3), "secret"), (Point(3), 0), (3, 0), (Odd(), 0)],
    ids=repr,
)
def test_a_part_that_is_not_there_is_told_in_words(value: Any, key: Any) -> None:
    with pytest.raises(UnresolvedError, match=r"^a.output\['k'\] has no part \[.*\], it is a "):
        OutputReference(None, "a")["k"][key].resolve({"a": {"k": value}}, {})


def test_an_upstream_that_has_none_is_told() -> None:
    with pytest.raises(UnresolvedError, match=r"^step 'a' has no output, it has not succeeded$"):
        OutputReference(None, "a")["k"].resolve({"b": 1}, {})


def test_only_declared_fields_are_parts() -> None:
    assert part_of(Point(3), "x") == 3
    with pytest.raises(KeyError):
        part_of(Point(3), "secret")


def test_a_reference_travels_without_its_flow() -> None:
    flow: Any = object()
    for reference in (OutputReference(flow, "a", ("k", 0)), ParamReference(flow, "p", (1,))):
        there = pickle.loads(pickle.dumps(reference))
        assert (type(there), there.flow, there.name, there.path) == (
            type(reference),
            None,
            reference.name,
            reference.path,
        )
        assert repr(there) == repr(reference)
