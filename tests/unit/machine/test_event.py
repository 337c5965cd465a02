"""The event: immutable, and the same wherever it travels."""

from __future__ import annotations

import copy
import pickle
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oautom.machine.event import NO_DATA, Event, own_copy
from tests.kit import created, started, step_succeeded

EVENT = step_succeeded(7, "a", output={"rows": [1, 2]})


@pytest.mark.parametrize("field", Event.__struct_fields__)
def test_no_field_can_be_set(field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(EVENT, field, "changed")


def test_nothing_can_be_added_to_its_data() -> None:
    with pytest.raises(TypeError):
        EVENT.data["more"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        NO_DATA["more"] = 1  # type: ignore[index]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_event_survives_a_pickle(protocol: int) -> None:
    again = pickle.loads(pickle.dumps(EVENT, protocol))

    assert again == EVENT
    assert again is not EVENT
    assert again.time.utcoffset() == EVENT.time.utcoffset()
    with pytest.raises(TypeError):
        again.data["more"] = 1


def test_a_deep_copy_is_equal() -> None:
    assert copy.deepcopy(EVENT) == EVENT


def test_events_that_differ_in_one_field_are_not_equal() -> None:
    assert step_succeeded(7, "a", output={"rows": [1, 2]}) == EVENT
    assert msgspec.structs.replace(EVENT, seq=8) != EVENT
    assert msgspec.structs.replace(EVENT, data={"output": None}) != EVENT


def test_a_star_import_brings_what_users_need_of_events() -> None:
    names: dict[str, object] = {}
    exec("from oautom.events import *", names)

    assert set(names) - {"__builtins__"} == {
        "Event",
        "EventLog",
        "GivenUp",
        "MemoryEventLog",
        "PrunedVect",
        "Request",
        "SqliteEventLog",
        "VectEntry",
        "replay",
        "signals",
    }


# Copies of its own


def spoil(value: Any) -> None:
    """Empty all lists and dictionaries in a value."""
    seen: set[int] = set()
    left = [value]
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict | MappingProxyType):
            left += each.values()
        elif isinstance(each, list | tuple):
            left += each
        if isinstance(each, dict | list):
            each.clear()


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner)
        | st.dictionaries(st.text(max_size=3), inner).map(MappingProxyType)
    ),
    max_leaves=12,
)


@given(values)
def test_what_is_done_to_a_copy_is_not_done_to_the_event(value: Any) -> None:
    event = step_succeeded(1, "a", output=[value, value])
    before = repr(event)
    own = own_copy(event)

    assert own == event
    assert repr(own) == before
    assert own.data["output"][0] is own.data["output"][1]
    spoil(own.data)
    assert repr(event) == before


@pytest.mark.parametrize(
    "event",
    [
        started(1),
        step_succeeded(1, "a", output=("a", (1, None), ((),))),
        step_succeeded(1, "a", output="text"),
        created(1, {"a": (), "b": ("a",)}),
    ],
)
def test_an_event_in_which_nothing_can_be_changed_is_its_own_copy(event: Event) -> None:
    if event.name == "vect.created":
        frozen = {key: MappingProxyType(value) for key, value in event.data.items()}
        event = msgspec.structs.replace(event, data=MappingProxyType(frozen))

    assert own_copy(event) is event


def test_an_object_of_a_users_own_is_handed_on() -> None:
    class Mine(list[int]):
        """No container that is known: its copy might be something else."""

    mine = Mine([1])
    own = own_copy(step_succeeded(1, "a", output=[mine, {"also": mine}, {3}]))

    assert own.data["output"][0] is mine
    assert own.data["output"][1]["also"] is mine


def test_what_holds_itself_is_copied_as_it_is() -> None:
    knot: list[Any] = [1]
    knot.append((knot, {"knot": knot}))
    own = own_copy(step_succeeded(1, "a", output=knot)).data["output"]

    assert own is not knot
    assert own[1][0] is own
    assert own[1][1]["knot"] is own


def test_what_is_nested_deeply_is_copied() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    own = own_copy(step_succeeded(1, "a", output=deep)).data["output"]
    left = []
    while own:
        left.append(own)
        own = own[0]
    assert len(left) == 100_000
    while left:
        left.pop().clear()
    while deep:
        deep = deep.pop()


def test_data_that_are_a_dictionary_are_read_only_in_the_copy() -> None:
    event = msgspec.structs.replace(started(1), data={"a": 1})
    own = own_copy(event)

    assert own == event
    with pytest.raises(TypeError):
        own.data["a"] = 2  # type: ignore[index]
