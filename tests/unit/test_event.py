"""The event: immutable, and the same wherever it travels."""

from __future__ import annotations

import copy
import pickle

import msgspec
import pytest

from oautom.events.event import NO_DATA, Event

from .hand_made import step_succeeded

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
        "MemoryEventLog",
        "PrunedVect",
        "Request",
        "SqliteEventLog",
        "VectEntry",
        "replay",
        "signals",
    }
