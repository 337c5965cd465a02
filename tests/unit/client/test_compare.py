"""What two values have otherwise: the parts, with their places."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oautom.client.compare import ABSENT, PARTS_MAX, Difference, _values

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


def told(one: Any, other: Any) -> list[tuple[str, Any, Any]]:
    return [each[1:] for each in _values("a", "output", one, other)]


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (1, 1, []),
        (1, 2, [("output", 1, 2)]),
        (1, True, [("output", 1, True)]),
        (1, 1.0, [("output", 1, 1.0)]),
        (None, "", [("output", None, "")]),
        ([1, 2], [1, 2, 3], [("output", [1, 2], [1, 2, 3])]),
        ([1, [2]], [1, [3]], [("output[1][0]", 2, 3)]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        ({"a": 1}, {"b": None}, [("output['a']", 1, ABSENT), ("output['b']", ABSENT, None)]),
        ({"a": {"b": [0]}}, {"a": {"b": [1]}}, [("output['a']['b'][0]", 0, 1)]),
        ("abc", "abd", [("output", "abc", "abd")]),
        ({"a": [1]}, {"a": {"b": 1}}, [("output['a']", [1], {"b": 1})]),
    ],
)
def test_the_parts_that_differ_are_told(one: Any, other: Any, found: list[Any]) -> None:
    assert told(one, other) == found


def test_where_much_differs_the_whole_is_told() -> None:
    one, other = list(range(PARTS_MAX + 1)), list(range(1, PARTS_MAX + 2))
    assert told(one, other) == [("output", one, other)]
    assert len(told(one[1:], other[1:])) == PARTS_MAX


def test_values_that_json_does_not_have_differ_unless_they_are_one() -> None:
    thing = object()
    assert told(thing, thing) == []
    assert len(told(thing, object())) == 1


@given(JSON, JSON)
def test_a_value_differs_from_itself_in_nothing_and_from_others_in_what_is_there(
    one: Any, other: Any
) -> None:
    assert told(one, one) == []
    for place, mine, theirs in told(one, other):
        for value, found in ((one, mine), (other, theirs)):
            if found is not ABSENT:
                assert repr(eval(f"output{place[6:]}", {"output": value})) == repr(found)
    assert repr(Difference(None, "x", ABSENT, 1).one) == "ABSENT"
