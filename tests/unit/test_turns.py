"""Whose turn it is: each step waits once, however often it is looked at."""

from __future__ import annotations

from oautom.events.fold import VectState
from oautom.graph import Graph
from oautom.turns import Turns


def vect_of(**options: dict[str, object]) -> VectState:
    return VectState("f", "v", Graph(dict.fromkeys("abcd", ())), {}, options)


def test_who_is_added_twice_has_one_turn() -> None:
    """As a step under `one_success` of which two upstreams end while it waits for a worker."""
    vect, turns = vect_of(a={"priority": 0}), Turns()
    for name in "abaab":
        turns.add(vect.steps[name])

    assert turns.size == 2
    assert [turns.take(has_slot=True) for _ in range(3)] == [vect.steps["a"], vect.steps["b"], None]
    turns.add(vect.steps["a"])
    assert turns.take(has_slot=True) is vect.steps["a"]


def test_who_is_forgotten_can_wait_again() -> None:
    options = {"a": {"kind": "wait"}, "b": {"pool": ["p", 0]}, "c": {"priority": 3}}
    vect, turns = vect_of(**options), Turns()  # type: ignore[arg-type]
    for _ in range(2):
        for name in "abcd":
            turns.add(vect.steps[name])
        taken = [turns.take(has_slot=True) for _ in range(4)]
        assert taken == [vect.steps[name] for name in "acd"] + [None]
        turns.add(vect.steps["d"])
        turns.forget(vect)
        assert turns.size == 0
