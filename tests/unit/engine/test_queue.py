"""Whose turn it is: each step waits once, however often it is looked at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oautom.engine.queue import ReadyQueue
from oautom.engine.rates import Rates
from oautom.events import MemoryEventLog
from oautom.events.rates import Usage
from oautom.machine.event import Event
from oautom.machine.graph import Graph
from oautom.machine.state import Limit, Rate, StepState, VectState
from tests.kit import event


def vect_of(vect: str = "v", /, **options: dict[str, object]) -> VectState:
    return VectState("f", vect, Graph(dict.fromkeys("abcd", ())), {}, options)


def test_who_is_added_twice_has_one_turn() -> None:
    """As a step under `one_success` of which two upstreams end while it waits for a worker."""
    vect, turns = vect_of(a={"priority": 0}), ReadyQueue()
    for name in "abaab":
        turns.add(vect.steps[name])

    assert turns.size == 2
    assert [turns.take(has_slot=True) for _ in range(3)] == [vect.steps["a"], vect.steps["b"], None]
    turns.add(vect.steps["a"])
    assert turns.take(has_slot=True) is vect.steps["a"]


def test_who_is_forgotten_can_wait_again() -> None:
    options = {"a": {"kind": "wait"}, "b": {"pool": ["p", 0]}, "c": {"priority": 3}}
    vect, turns = vect_of(**options), ReadyQueue()  # type: ignore[arg-type]
    for _ in range(2):
        for name in "abcd":
            turns.add(vect.steps[name])
        taken = [turns.take(has_slot=True) for _ in range(4)]
        assert taken == [vect.steps[name] for name in "acd"] + [None]
        turns.add(vect.steps["d"])
        turns.forget(vect)
        assert turns.take(has_slot=True) is None


def test_who_came_first_has_a_turn_first_whichever_pool_has_had_room_first() -> None:
    vect, turns = (
        vect_of(a={"pool": ["p", 1]}, b={"pool": ["q", 1]}, c={"priority": 0}),
        ReadyQueue(),
    )
    turns.take_slot("p", ("another",))
    turns.take_slot("q", ("another",))
    turns.add(vect.steps["a"])
    turns.add(vect.steps["b"])
    assert turns.take(has_slot=True) is None
    turns.add(vect.steps["c"])
    turns.free_slot("p", ("another",))
    turns.free_slot("q", ("another",))

    assert turns.size == 3
    assert [turns.take(has_slot=True) for _ in range(3)] == [vect.steps[name] for name in "abc"]


def test_where_the_first_does_not_start_after_all_the_next_of_its_pool_does() -> None:
    vect, turns = vect_of(**{name: {"pool": ["p", 1]} for name in "abcd"}), ReadyQueue()  # type: ignore[arg-type]
    other = vect_of("other", a={"pool": ["p", 1]})
    turns.take_slot("p", ("another",))
    for step in (other.steps["a"], *vect.steps.values()):
        turns.add(step)
    assert turns.take(has_slot=True) is None

    turns.free_slot("p", ("another",))
    turns.forget(other)

    assert [turns.take(has_slot=True) for _ in range(4)] == list(vect.steps.values())


def test_pools_of_one_name_and_two_sizes_do_not_keep_each_other_waiting() -> None:
    """As when a program makes its pool smaller while Vects of the old one are open."""
    vect, turns = vect_of(a={"pool": ["p", 1]}, b={"pool": ["p", 2]}), ReadyQueue()
    for holder in "xy":
        turns.take_slot("p", (holder,))
    turns.add(vect.steps["a"])
    turns.add(vect.steps["b"])
    assert turns.take(has_slot=True) is None

    turns.free_slot("p", ("x",))

    assert [turns.take(has_slot=True) for _ in range(2)] == [vect.steps["b"], None]


def test_many_that_wait_for_one_pool_are_not_all_asked_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size, asked = 1000, 0
    names = [str(number) for number in range(size)]
    options = {name: {"pool": ["p", 1]} for name in names}
    vect = VectState("f", "v", Graph(dict.fromkeys(names, ())), {}, options)
    turns, has_room = ReadyQueue(), ReadyQueue._has_room

    def ask(self: ReadyQueue, limit: Limit) -> bool:
        nonlocal asked
        asked += 1
        return has_room(self, limit)

    monkeypatch.setattr(ReadyQueue, "_has_room", ask)
    for step in vect.steps.values():
        turns.add(step)
    for step in vect.steps.values():
        assert turns.take(has_slot=True) is step
        turns.take_slot("p", (step,))
        assert turns.take(has_slot=True) is None
        turns.free_slot("p", (step,))

    assert asked <= 3 * size


def heavy_and_light(light: int) -> VectState:
    """Return a Vect with a step that takes all four slots of a pool, and others that take one."""
    options = {str(number): {"pool": ["p", 4]} for number in range(light)}
    options["heavy"] = {"pool": ["p", 4], "pool_slots": 4}
    return VectState("f", "v", Graph(dict.fromkeys(options, ())), {}, options)


def test_a_step_that_takes_several_slots_is_passed_by_no_later_one_of_its_pool() -> None:
    """After its first try only those start before it that came before it, or rank higher."""
    vect, turns = heavy_and_light(10), ReadyQueue()
    steps = vect.steps
    for name in "01":
        turns.add(steps[name])
        assert turns.take(has_slot=True) is steps[name]
        turns.take_slot("p", ("v", name))
    turns.add(steps["heavy"])
    for number in range(2, 10):  # the stream
        turns.add(steps[str(number)])
        assert turns.take(has_slot=True) is None

    assert turns.claim_before(steps["5"]) is steps["heavy"]
    turns.free_slot("p", ("v", "0"))
    assert turns.take(has_slot=True) is None
    turns.free_slot("p", ("v", "1"))
    assert turns.take(has_slot=True) is steps["heavy"]
    turns.take_slot("p", ("v", "heavy"), 4)
    assert turns.take(has_slot=True) is None
    turns.free_slot("p", ("v", "heavy"))
    taken = []
    for number in range(2, 6):
        taken.append(turns.take(has_slot=True))
        turns.take_slot("p", ("v", str(number)))
    assert taken == [steps[str(number)] for number in range(2, 6)]
    assert turns.take(has_slot=True) is None
    assert not turns.claims


def test_a_claim_that_is_forgotten_lets_those_behind_it_go() -> None:
    vect, turns, other = heavy_and_light(2), ReadyQueue(), vect_of("w", a={"pool": ["p", 4]})
    turns.take_slot("p", ("v", "x"))
    turns.add(vect.steps["heavy"])
    turns.add(other.steps["a"])
    assert turns.take(has_slot=True) is None

    turns.forget(vect)

    assert turns.take(has_slot=True) is other.steps["a"]
    assert not turns.claims


def test_what_somebody_with_slots_waits_for_goes_before_a_claim() -> None:
    """Else the claim would wait for itself: its slots come free when that work is done."""
    vect, turns, child = heavy_and_light(1), ReadyQueue(), vect_of("v/0/1", a={"pool": ["p", 4]})
    awaited: set[str] = set()
    turns.is_awaited = lambda vect, holders: vect in awaited and ("v", "0") in holders
    turns.take_slot("p", ("v", "0"))
    for step in (vect.steps["heavy"], child.steps["a"]):
        turns.add(step)
    assert turns.take(has_slot=True) is None

    awaited.add("v/0/1")
    turns.look_behind_claims()

    assert turns.take(has_slot=True) is child.steps["a"]
    assert turns.take(has_slot=True) is None
    turns.free_slot("p", ("v", "0"))
    assert turns.take(has_slot=True) is vect.steps["heavy"]


class UsedUp(Rates):
    """Rates that allow nothing."""

    def usage(self, rate: Rate, now: datetime) -> Usage:
        return Usage(rate.starts, now + timedelta(seconds=1))


def test_turns_that_wait_for_different_things_do_not_check_for_each_other_for_ever() -> None:
    """One comes before a claim and waits for the rate; another comes after that claim."""
    options: dict[str, Any] = {"pool": ["p", 3], "rate": [4, 1]}
    vect = vect_of(a=options, b=options | {"pool_slots": 2}, c=options, d=options)
    turns = ReadyQueue()
    turns.rates, turns.now = UsedUp(MemoryEventLog()), datetime(2026, 1, 1, tzinfo=UTC)
    turns.take_slot("p", ("v", "x"), 2)
    for step in vect.steps.values():
        turns.add(step)

    assert turns.take(has_slot=True) is None  # and it ends
    turns.free_slot("p", ("v", "x"))
    assert turns.take(has_slot=True) is None
    turns.rates = None
    turns.look_at_rates(at_all=True)
    taken = [turns.take(has_slot=True) for _ in range(5)]
    assert taken[:4] == list(vect.steps.values())


def test_many_behind_one_claim_are_not_all_asked_each_time(monkeypatch: Any) -> None:
    size, asked = 1000, 0
    vect, turns, obstacle = heavy_and_light(size), ReadyQueue(), ReadyQueue._obstacle

    def ask(self: ReadyQueue, turn: Any, limit: Limit) -> Any:
        nonlocal asked
        asked += 1
        return obstacle(self, turn, limit)

    monkeypatch.setattr(ReadyQueue, "_obstacle", ask)
    for holder in range(3):
        turns.take_slot("p", ("other", holder))
    turns.add(vect.steps["heavy"])
    for number in range(size):
        turns.add(vect.steps[str(number)])
        assert turns.take(has_slot=True) is None
    for holder in range(3):
        turns.free_slot("p", ("other", holder))
    assert turns.take(has_slot=True) is vect.steps["heavy"]
    turns.take_slot("p", ("v", "heavy"), 4)
    assert turns.take(has_slot=True) is None
    turns.free_slot("p", ("v", "heavy"))
    for number in range(size):
        assert turns.take(has_slot=True) is vect.steps[str(number)]

    assert asked <= 5 * size


def started(step: StepState, source: str = "pending", dest: str = "running") -> Event:
    return event(1, "step.started", source, dest, step=step.name, attempt=1)


def test_a_step_that_runs_has_a_slot_of_its_pool_and_no_other_has() -> None:
    options = {
        "a": {"pool": ["p", 1]},
        "b": {"pool": ["p", 1], "kind": "map"},
        "c": {"priority": 1},
    }
    vect, turns = vect_of(**options), ReadyQueue()  # type: ignore[arg-type]
    for step in vect.steps.values():
        turns.hear(step, started(step), is_at_work=False)
    assert turns.taken() == {"p": 1}

    turns.hear(
        vect.steps["a"], started(vect.steps["a"], "running", "running"), is_at_work=False
    )  # a late result
    turns.hear(vect.steps["b"], started(vect.steps["b"], "running", "success"), is_at_work=False)
    assert turns.taken() == {"p": 1}

    turns.hear(
        vect.steps["a"], started(vect.steps["a"], "running", "up_for_retry"), is_at_work=False
    )
    assert turns.taken() == {"p": 0}


def test_who_has_a_turn_before_a_step_is_counted() -> None:
    options = {"a": {"priority": 1}, "b": {"kind": "wait"}, "c": {"priority": -1}}
    vect, turns = vect_of(**options), ReadyQueue()  # type: ignore[arg-type]
    for name in "cbda":
        turns.add(vect.steps[name])

    ahead = {name: turns.ahead_of(vect.steps[name]) for name in "acd"}
    assert ahead == {"a": (0, 0), "d": (1, 1), "c": (2, 2)}
    assert turns.take(has_slot=True) is vect.steps["b"]
    assert turns.take(has_slot=True) is vect.steps["a"]
    assert turns.ahead_of(vect.steps["a"]) == (0, 0)
    assert turns.ahead_of(vect.steps["c"]) == (1, 1)


def test_of_a_vect_that_is_given_up_only_who_is_at_work_keeps_a_slot() -> None:
    pool: dict[str, object] = {"pool": ["p", 2]}
    vect, other, turns = vect_of(a=pool, b=pool), vect_of("other", a=pool, b=pool), ReadyQueue()
    for name in "ab":
        turns.take_slot("p", ("v", name))
        turns.add(other.steps[name])
    assert turns.take(has_slot=True) is None
    turns.give_up("v", {("v", "b")})

    assert turns.taken() == {"p": 1}
    assert turns.take(has_slot=True) is other.steps["a"]
    turns.take_slot("p", ("other", "a"))
    assert turns.take(has_slot=True) is None
    turns.give_up("v", ())
    assert turns.take(has_slot=True) is other.steps["b"]
    assert vect.steps["a"].state == "pending"


def test_who_is_left_when_a_vect_is_forgotten_is_served_in_order() -> None:
    options = {name: {"priority": of} for name, of in {"a": 10, "b": 9, "c": 1, "d": 8}.items()}
    gone, vect, turns = vect_of("gone", **options), vect_of(**options), ReadyQueue()  # type: ignore[arg-type]
    for step in (gone.steps["a"], gone.steps["b"], vect.steps["c"], vect.steps["d"]):
        turns.add(step)
    turns.forget(gone)

    assert [turns.take(has_slot=True) for _ in range(3)] == [
        *(vect.steps[name] for name in "dc"),
        None,
    ]
