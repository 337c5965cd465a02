"""A map whose instances run a flow each: their parameters, their order, their ends, going on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, TypedDict

import pytest

from oautom import (
    ApprovalExecution,
    Flow,
    FlowError,
    FlowExecution,
    MapExecution,
    MemoryEventLog,
    OAutom,
    OAutomMode,
    Param,
    Pool,
    PythonExecution,
    RetryPolicy,
    WaitExecution,
)
from oautom.testing import SimulatedClock, check_history, explore, simulate
from oautom.testing.crashes import Crash, MortalLog

from .conftest import SECONDS, Gate, check, nothing


def declare(
    app: OAutom, items: Any, work: Callable[[int], Any] = lambda n: n, **options: Any
) -> tuple[Flow, Flow]:
    """Declare a flow with a map of a flow of one parameter and three steps."""
    inner = Flow("inner", app, params={"n": int}, max_active_vects=None)
    before: PythonExecution | None = None
    for name in ("a", "b", "c"):
        step = PythonExecution(name, inner, work, [inner.param("n")])
        step.depends(*([before] if before is not None else []))
        before = step
    main = Flow("main", app)
    MapExecution("each", main, inner, PythonExecution("items", main, lambda: items), **options)
    return main, inner


def double(n: int) -> int:
    return 2 * n


# What an item is for its child


def test_each_item_is_a_child_and_the_output_is_the_list_of_their_outputs(any_app: OAutom) -> None:
    main, inner = declare(any_app, [1, 2], double)
    vect = any_app.run(main, vect_id="monday")

    assert vect.state == "success", vect.steps["each"].error
    assert vect.result("each") == [{"a": 2, "b": 2, "c": 2}, {"a": 4, "b": 4, "c": 4}]
    assert vect.steps["each[1]"].child == "monday/each[1]/1"
    child = any_app.vect("monday/each[1]/1")
    assert (child.flow, child.state) == (inner, "success")
    assert child.status()["params"] == {"n": 2}
    assert child.events()[0].data["parent"] == ["monday", "each[1]", 1]
    check(any_app)


def test_a_dictionary_gives_the_parameters_and_kwargs_the_others(any_app: OAutom) -> None:
    inner = Flow("inner", any_app, params={"day": date, "n": Param(int, 3), "who": str})
    show = PythonExecution(
        "show", inner, "{} {} {}".format, [inner.param(each) for each in ("day", "n", "who")]
    )
    main = Flow("main", any_app, params={"who": str})
    items = [{"day": "2026-11-24"}, {"day": "2026-11-25", "n": 4, "who": "Bo"}]
    source = PythonExecution("items", main, lambda: items)
    MapExecution("each", main, "inner", source, {"who": main.param("who")})
    vect = any_app.run(main, {"who": "Al"})

    shown = [each[show.name] for each in vect.result("each")]
    assert shown == ["2026-11-24 3 Al", "2026-11-25 4 Bo"]  # what an item says itself counts
    check(any_app)


@dataclass
class City:
    name: str


class Row(TypedDict):
    name: str


@pytest.mark.parametrize("kind", [dict, dict[str, Any], City, Row, City | None])
def test_a_dictionary_is_the_value_of_an_only_parameter_that_is_declared_as_one(
    any_app: OAutom, kind: Any
) -> None:
    inner = Flow("inner", any_app, params={"city": kind, "n": int})
    PythonExecution("show", inner, str, [inner.param("city")])
    main = Flow("main", any_app)
    source = PythonExecution("items", main, lambda: [{"name": "Rome"}])
    MapExecution("each", main, inner, source, {"n": 1})
    vect = any_app.run(main)

    assert vect.state == "success", vect.steps["each"].error
    assert "Rome" in vect.result("each")[0]["show"]
    child = any_app.vect(vect.steps["each[0]"].child or "")
    assert child.status()["params"]["city"] == {"name": "Rome"}


def test_a_record_is_the_only_parameter(any_app: OAutom) -> None:
    def cities() -> list[City]:
        return [City("Rome")]

    inner = Flow("inner", any_app, params={"city": City})
    PythonExecution("name", inner, lambda city: city.name, [inner.param("city")])
    main = Flow("main", any_app)
    MapExecution("each", main, inner, PythonExecution("items", main, cities))

    assert any_app.run(main).result("each") == [{"name": "Rome"}]
    check(any_app)


@pytest.mark.parametrize(
    ("params", "item", "told"),
    [
        (
            {"a": int, "b": int},
            7,
            (
                "step 'each[1]' of flow 'main' cannot run flow 'inner' for its item 7: the item is "
                "no dictionary, and kwargs leaves 2 parameters of that flow ('a', 'b'), not one; "
                "make each item a dictionary of parameters, or give all but one by kwargs"
            ),
        ),
        ({"a": Param(int, 1), "b": Param(int, 2)}, [1], "for its item [1]: the item is no dict"),
        ({"a": int}, "x", "for its item 'x': flow 'inner': parameter 'a' must be int, not 'x'"),
        ({"a": int}, {"b": 1}, "for its item {'b': 1}: flow 'inner': there is no parameter 'b'"),
        ({"a": int}, {}, "for its item {}: flow 'inner': parameter 'a' is missing"),
        ({"a": int}, {"a": 1, "A": 2}, "there is no parameter 'A'"),
        ({"a": int}, None, "for its item None: flow 'inner': parameter 'a' must be int, not None"),
    ],
)
def test_an_item_that_cannot_be_the_parameters_fails_alone(
    any_app: OAutom, params: Any, item: Any, told: str
) -> None:
    inner = Flow("inner", any_app, params=params)
    PythonExecution("work", inner, nothing)
    main = Flow("main", any_app)
    good = {"a": 1, "b": 2} if len(params) == 2 else 1
    source = PythonExecution("items", main, lambda: [good, item, good])
    MapExecution("each", main, inner, source)
    vect = any_app.run(main)

    states = [vect.steps[f"each[{index}]"].state for index in range(3)]
    assert states == ["success", "failed", "success"]
    assert told in (vect.steps["each[1]"].error or "")
    assert vect.state == "failed"
    assert (vect.steps["each"].error or "").startswith("1 of its 3 items failed, first each[1]: ")
    check(any_app)


def ints() -> list[int]:
    return [1]


def rows() -> list[Row]:
    return [{"name": "Rome"}]


@pytest.mark.parametrize(
    ("params", "over", "kwargs", "told"),
    [
        ({}, ints, None, "it has no parameter that the items could give"),
        ({"n": int}, ints, {"n": 1}, "it has no parameter that the items could give"),
        ({"n": int}, ints, {"m": 1}, "there is no parameter 'm'"),
        ({"n": int, "m": int}, ints, {"m": "x"}, "parameter 'm' must be int, not 'x'"),
        ({"n": int, "m": int}, ints, None, "kwargs leaves 2 parameters of that flow ('n', 'm')"),
        ({"day": date}, ints, None, "parameter 'day' is date, and the items are int"),
        ({"name": int}, rows, None, None),  # a text can be converted
        ({"name": str, "n": int}, rows, None, "parameter 'n' is missing in the items"),
    ],
)
def test_what_cannot_work_is_refused_before_the_start(
    inline: OAutom, params: Any, over: Any, kwargs: Any, told: str | None
) -> None:
    inner = Flow("inner", inline, params=params)
    PythonExecution("work", inner, nothing)
    main = Flow("main", inline)
    MapExecution("each", main, inner, PythonExecution("items", main, over), kwargs)
    if told is None:
        main.validate()
        return
    with pytest.raises(FlowError, match="step 'each' of flow 'main' cannot run flow 'inner'") as e:
        main.validate()
    assert told in str(e.value)


def test_flows_that_map_each_other_in_a_circle_are_refused(inline: OAutom) -> None:
    one, two = Flow("one", inline, params={"n": int}), Flow("two", inline, params={"n": int})
    for flow, other in ((one, two), (two, one)):
        source = PythonExecution("items", flow, ints)
        MapExecution("each", flow, other, source)
    with pytest.raises(FlowError, match="run each other in a circle: one -> two -> one"):
        one.validate()


def test_a_flow_that_is_unknown_or_of_another_app_is_refused(inline: OAutom) -> None:
    main = Flow("main", inline)
    MapExecution("each", main, "none", PythonExecution("items", main, ints))
    with pytest.raises(FlowError, match=r"cannot run its flow: .*'none'"):
        main.validate()
    with OAutom() as other:
        second = Flow("second", inline)
        MapExecution("each", second, Flow("x", other), PythonExecution("items", second, ints))
        with pytest.raises(FlowError, match="flow 'x', which belongs to another app"):
            second.validate()


def test_an_empty_list_and_no_list(any_app: OAutom) -> None:
    main, _ = declare(any_app, [])
    assert any_app.run(main).result("each") == []
    other = Flow("other", any_app)
    MapExecution("each", other, "inner", PythonExecution("items", other, lambda: 3))
    error = any_app.run(other).steps["each"].error or ""
    assert error.startswith("over must be a list, but items.output is a int: 3")
    check(any_app)


# Depth first


def order_of(app: OAutom, flow: str = "inner") -> list[tuple[str, str]]:
    """Return the starts of the steps of children: the index of the item, and the step."""
    return [
        (event.vect.partition("[")[2].partition("]")[0], event.step or "")
        for event in app.log.read()
        if event.flow == flow and event.name == "step.started"
    ]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_who_has_begun_goes_on_before_another_begins(new_app: Any, workers: int) -> None:
    app = new_app(max_workers=workers)
    main, _ = declare(app, list(range(8)))
    vect = app.run(main)

    assert vect.state == "success"
    begun: list[str] = []
    steps_of: dict[str, int] = {}
    for item, _ in order_of(app):
        if item not in steps_of:
            open_ones = [each for each in begun if steps_of[each] < 3]
            assert len(open_ones) < workers, (begun, steps_of)
            begun.append(item)
        steps_of[item] = steps_of.get(item, 0) + 1
    assert begun == [str(index) for index in range(8)]
    check(app)


def test_as_few_children_are_open_as_there_are_workers(new_app: Any) -> None:
    app = new_app(max_workers=2)
    main, _ = declare(app, list(range(20)))
    app.run(main)

    count = most = 0
    for event in app.log.read():
        if event.flow == "inner" and event.step is None:
            count += (event.name == "vect.created") - (event.dest == "success")
            most = max(most, count)
    assert most <= 3  # one may begin in the tick in which another ends


def test_a_map_of_flows_in_a_child_goes_on_first_too(inline: OAutom) -> None:
    leaf = Flow("leaf", inline, params={"n": int}, max_active_vects=None)
    PythonExecution("a", leaf, nothing) >> PythonExecution("b", leaf, nothing)
    middle = Flow("middle", inline, params={"n": int}, max_active_vects=None)
    inner_items = PythonExecution("items", middle, lambda: [1, 2])
    MapExecution("leaves", middle, leaf, inner_items) >> FlowExecution(
        "one", middle, leaf, {"n": 1}
    )
    main = Flow("main", inline)
    MapExecution("each", main, middle, PythonExecution("items", main, lambda: [1, 2, 3]))
    vect = inline.run(main)

    assert vect.state == "success"
    leaves = [event.vect for event in inline.log.read() if event.flow == "leaf" and event.step]
    outer = [each.split("each[")[1][0] for each in leaves]
    assert [key for key, _ in groupby(outer)] == ["0", "1", "2"]
    check(inline)


def test_other_steps_keep_their_turn_among_the_items(inline: OAutom) -> None:
    """What waits before the map begins goes first; what comes later comes after its items."""
    main, _ = declare(inline, [1, 2, 3])
    before, later = (PythonExecution(name, main, nothing) for name in ("before", "later"))
    before.depends(main.steps["items"])
    later.depends(before)
    inline.run(main)

    told = [
        event.step if event.flow == "main" else event.vect.split("/")[1]
        for event in inline.log.read()
        if event.name == "step.started" and event.step not in ("items", "each")
    ]
    assert [key for key, _ in groupby(told)] == [
        *("before", "each[0]", "each[1]", "each[2]", "later")
    ]
    check(inline)


def test_the_priority_of_a_map_is_that_of_all_steps_below_it(inline: OAutom) -> None:
    inner = Flow("inner", inline, params={"n": int}, max_active_vects=None)
    PythonExecution("a", inner, nothing) >> PythonExecution("b", inner, nothing, priority=-5)
    main = Flow("main", inline)
    items = PythonExecution("items", main, lambda: [1, 2])
    MapExecution("low", main, inner, items)
    MapExecution("high", main, inner, items, priority=1)
    inline.run(main)

    steps = [e.vect for e in inline.log.read() if e.flow == "inner" and e.name == "step.started"]
    assert [key for key, _ in groupby(each.split("/")[1] for each in steps)] == [
        *("high[0]", "high[1]", "low[0]", "low[1]")
    ]
    check(inline)


def test_max_parallel_bounds_the_children_and_not_their_steps(new_app: Any) -> None:
    app = new_app(max_workers=4)
    main, _ = declare(app, list(range(6)), max_parallel=1)
    app.run(main)
    assert [item for item, _ in groupby(order_of(app), key=lambda each: each[0])] == [
        str(index) for index in range(6)
    ]
    check(app)


def test_children_that_wait_for_a_time_leave_their_worker(new_app: Any) -> None:
    app = new_app(executor="inline", clock=SimulatedClock())
    inner = Flow("inner", app, params={"n": int}, max_active_vects=None)
    WaitExecution("wait", inner, seconds=3600) >> PythonExecution("work", inner, nothing)
    main = Flow("main", app)
    MapExecution("each", main, inner, PythonExecution("items", main, lambda: [1, 2, 3]))
    vect = app.run(main)

    assert vect.state == "success"
    took = vect.status()["end_date"], vect.status()["start_date"]
    assert took[0][:13] != took[1][:13]
    begun = [e.time for e in app.log.read() if e.name == "step.started" and e.step == "wait"]
    assert len(set(begun)) == 1  # all at once: nobody else needs the worker
    check(app)


# How children end, and what becomes of the map


def failing(bad: set[int]) -> Callable[[int], int]:
    def work(n: int) -> int:
        if n in bad:
            raise ValueError(f"{n} is bad")
        return n

    return work


def test_one_bad_child_harms_no_other_and_fails_the_map_in_the_end(any_app: OAutom) -> None:
    main, _ = declare(any_app, [0, 1, 2, 3], failing({1}))
    vect = any_app.run(main, vect_id="v")

    states = [vect.steps[f"each[{index}]"].state for index in range(4)]
    assert states == ["success", "failed", "success", "success"]
    error = "vect 'v/each[1]/1' of flow 'inner' failed: step 'a': ValueError: 1 is bad"
    assert vect.steps["each[1]"].error == error
    assert vect.steps["each"].error == f"1 of its 4 items failed, first each[1]: {error}"
    check(any_app)


def test_a_retry_runs_only_what_failed_in_the_child_where_it_failed(any_app: OAutom) -> None:
    bad, calls = {1, 2}, list[tuple[str, int]]()
    inner = Flow("inner", any_app, params={"n": int}, max_active_vects=None)

    def first(n: int) -> None:
        calls.append(("first", n))

    def second(n: int) -> int:
        calls.append(("second", n))
        return failing(bad)(n)

    one = PythonExecution("first", inner, first, [inner.param("n")])
    PythonExecution("second", inner, second, [inner.param("n")]).depends(one)
    main = Flow("main", any_app)
    MapExecution("each", main, inner, PythonExecution("items", main, lambda: list(range(4))))
    vect = any_app.run(main, vect_id="v")
    assert vect.state == "failed"
    calls.clear()
    bad.clear()
    vect.retry()
    vect.wait(SECONDS)

    assert vect.state == "success", vect.steps["each"].error
    assert sorted(calls) == [("second", 1), ("second", 2)]
    assert [vect.steps[f"each[{index}]"].child for index in range(4)] == [
        f"v/each[{index}]/1" for index in range(4)
    ]
    assert [each["second"] for each in vect.result("each")] == [0, 1, 2, 3]
    check(any_app)


def test_each_instance_has_its_attempts_each_with_a_child(inline: OAutom) -> None:
    calls: list[int] = []

    def work(n: int) -> int:
        calls.append(n)
        if calls.count(n) < n:
            raise ValueError("not yet")
        return n

    inner = Flow("inner", inline, params={"n": int}, max_active_vects=None)
    PythonExecution("work", inner, work, [inner.param("n")])
    main = Flow("main", inline)
    source = PythonExecution("items", main, lambda: [1, 2, 3])
    MapExecution("each", main, inner, source, retry=RetryPolicy(max_attempts=3, delay=0))
    vect = inline.run(main, vect_id="v")

    assert vect.state == "success"
    assert [vect.steps[f"each[{i}]"].child for i in range(3)] == [
        *("v/each[0]/1", "v/each[1]/2", "v/each[2]/3")
    ]
    check(inline)


def held_children(app: OAutom, gate: Gate, count: int = 3, **options: Any) -> tuple[Flow, Flow]:
    inner = Flow("inner", app, params={"n": int}, max_active_vects=None)
    hold = PythonExecution("hold", inner, lambda n: gate(), [inner.param("n")])
    PythonExecution("after", inner, nothing).depends(hold)
    main = Flow("main", app)
    source = PythonExecution("items", main, lambda: list(range(count)))
    MapExecution("each", main, inner, source, **options)
    return main, inner


def test_a_cancel_cancels_the_children_that_have_begun_and_begins_no_other(
    new_app: Any,
) -> None:
    app = new_app(OAutomMode.background, max_workers=2)
    asked = ApprovalExecutionFlow(app, 5)
    vect = app.start(asked, vect_id="v")
    asked.wait_for(app, 5)
    vect.cancel("enough")

    assert vect.wait(SECONDS) == "cancelled"
    for index in range(5):
        assert vect.steps[f"each[{index}]"].state == "cancelled"
        assert app.vect(f"v/each[{index}]/1").wait(SECONDS) == "cancelled"
    check(app)


class ApprovalExecutionFlow(Flow):
    """A flow with a map of a flow that waits for a person."""

    def __init__(self, app: OAutom, count: int, **options: Any) -> None:
        self.inner = Flow("inner", app, params={"n": int}, max_active_vects=None)
        ask = ApprovalExecution("ask", self.inner, "go on?")
        PythonExecution("work", self.inner, nothing).depends(ask)
        super().__init__("main", app)
        source = PythonExecution("items", self, lambda: list(range(count)))
        MapExecution("each", self, self.inner, source, **options)

    def wait_for(self, app: OAutom, count: int) -> None:
        """Return when so many children ask."""
        deadline = threading.Event()
        for _ in range(SECONDS * 200):
            open_ones = [
                vect for vect in app.vects("inner") if vect.steps["ask"].state == "running"
            ]
            if len(open_ones) >= count:
                return
            deadline.wait(0.005)
        raise AssertionError(f"{len(app.vects('inner'))} children have begun")


def test_a_child_that_a_person_cancels_fails_its_instance_only(new_app: Any) -> None:
    app = new_app(OAutomMode.background)
    main = ApprovalExecutionFlow(app, 3)
    vect = app.start(main, vect_id="v")
    main.wait_for(app, 3)
    app.vect("v/each[1]/1").cancel("not this one")
    for index in (0, 2):
        app.vect(f"v/each[{index}]/1").approve("ask", by="Al")

    assert vect.wait(SECONDS) == "failed"
    assert [vect.steps[f"each[{i}]"].state for i in range(3)] == ["success", "failed", "success"]
    assert "was cancelled: not this one" in (vect.steps["each[1]"].error or "")
    check(app)


def test_a_timeout_of_the_map_is_that_of_each_child(new_app: Any) -> None:
    app = new_app(executor="inline", clock=SimulatedClock())
    inner = Flow("inner", app, params={"n": int}, max_active_vects=None)
    wait = WaitExecution("wait", inner, seconds=60)
    PythonExecution("work", inner, nothing).depends(wait)
    main = Flow("main", app)
    source = PythonExecution("items", main, lambda: [1, 2])
    MapExecution("each", main, inner, source, timeout=5)
    vect = app.run(main, vect_id="v")

    assert vect.state == "failed"
    assert vect.steps["each[1]"].error == "it took longer than its timeout of 5 seconds"
    assert app.vect("v/each[1]/1").state == "cancelled"
    check(app)


def test_no_child_begins_while_the_vect_is_paused_and_who_has_begun_goes_on(new_app: Any) -> None:
    app = new_app(OAutomMode.background, max_workers=1)
    gate = Gate()
    main, _ = held_children(app, gate)
    vect = app.start(main, vect_id="v")
    assert gate.reached.wait(SECONDS)
    vect.pause()
    gate.opened.set()
    assert app.vect("v/each[0]/1").wait(SECONDS) == "success"
    assert [each.id for each in app.vects("inner")] == ["v/each[0]/1"]
    assert "its vect is paused" in vect.explain("each[1]")
    vect.resume()

    assert vect.wait(SECONDS) == "success"
    assert [vect.id for vect in app.vects("inner")] == [f"v/each[{i}]/1" for i in range(3)]
    check(app)


def test_children_wait_for_their_turn_and_say_so(new_app: Any) -> None:
    app = new_app(OAutomMode.background, max_workers=4)
    main = ApprovalExecutionFlow(app, 3)
    main.inner.max_active_vects = 1
    vect = app.start(main, vect_id="v")
    main.wait_for(app, 1)
    for index in range(3):
        child = app.vect(f"v/each[{index}]/1")
        for _ in range(SECONDS * 200):
            if child.steps["ask"].state == "running":
                break
            threading.Event().wait(0.005)
        if index == 0:
            assert "number 2 in line" in vect.explain("each[2]"), vect.explain("each[2]")
        child.approve("ask", by="Al")

    assert vect.wait(SECONDS) == "success"
    check(app)


def test_a_limit_of_a_lane_holds_up_no_other(new_app: Any) -> None:
    app = new_app(max_workers=4)
    inner = Flow("inner", app, params={"who": str, "n": int}, limit_by="who")
    PythonExecution("work", inner, nothing)
    main = Flow("main", app)
    items = [{"who": who, "n": n} for who in ("Al", "Bo") for n in range(3)]
    MapExecution("each", main, inner, PythonExecution("items", main, lambda: items))
    assert app.run(main).state == "success"
    check(app)


def test_a_pool_counts_the_children_that_are_open(new_app: Any) -> None:
    app = new_app(max_workers=4)
    gate_free = threading.Semaphore(2)

    def work(n: int) -> None:
        assert gate_free.acquire(blocking=False), "more than two at once"
        gate_free.release()

    inner = Flow("inner", app, params={"n": int}, max_active_vects=None)
    PythonExecution("work", inner, work, [inner.param("n")])
    main = Flow("main", app)
    source = PythonExecution("items", main, lambda: list(range(6)))
    MapExecution("each", main, inner, source, pool=Pool("two", 2))
    assert app.run(main).state == "success"
    check(app)


def test_a_pool_that_the_children_need_must_have_room_for_them(inline: OAutom) -> None:
    pool = Pool("few", 2)
    inner = Flow("inner", inline, params={"n": int}, max_active_vects=None)
    PythonExecution("work", inner, nothing, pool=pool)
    main = Flow("main", inline)
    source = PythonExecution("items", main, lambda: [1, 2, 3])
    each = MapExecution("each", main, inner, source, pool=pool)
    with pytest.raises(FlowError, match=r"beside all other items \(give the map max_parallel\)"):
        main.validate()
    each.max_parallel = 1
    main.validate()
    each.max_parallel = 2
    with pytest.raises(FlowError, match="beside 1 more at once need 3, and there are 2"):
        main.validate()


def test_each_instance_is_compensated_by_itself(inline: OAutom) -> None:
    undone: list[Any] = []
    declare(inline, [0, 1, 2], failing({1}))

    def undo(context: Any) -> None:
        undone.append((context.step, context.item, context.output))

    second = Flow("second", inline)
    source = PythonExecution("items", second, lambda: [0, 1, 2])
    MapExecution("each", second, "inner", source, compensate=undo)
    vect = inline.run(second)

    assert vect.state == "failed"
    outputs = {"a": 2, "b": 2, "c": 2}
    assert undone == [("each[2]", 2, outputs), ("each[0]", 0, dict.fromkeys("abc", 0))]
    check(inline)


def test_a_teardown_that_is_a_map_of_flows_runs_after_a_cancel(inline: OAutom) -> None:
    inner = Flow("inner", inline, params={"n": int}, max_active_vects=None)
    PythonExecution("work", inner, nothing)
    main = Flow("main", inline)
    source = PythonExecution("items", main, lambda: [1, 2])
    bad = PythonExecution("bad", main, failing({0}), [0])
    bad.depends(source)
    each = MapExecution("each", main, inner, source, teardown=True)
    each.depends(bad)
    vect = inline.run(main)

    assert (vect.state, vect.steps["each"].state) == ("failed", "success")
    check(inline)


def date_of(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_map_of_flows_simulates_and_explores(inline: OAutom) -> None:
    main, _ = declare(inline, [])
    items: Any = [[1, 2, 3, 4]]
    for workers, seconds in ((1, 40), (2, 20), (None, 10)):
        vect = simulate(
            main, outcomes={"items": items}, durations={"each": 10}, max_workers=workers
        )
        assert vect.state == "success"
        status = vect.status()
        took = date_of(status["end_date"]) - date_of(status["start_date"])
        assert took.total_seconds() == seconds  # while it runs, each is taken to have a worker
        check_history(vect.events(), main, max_workers=workers)
    assert explore(main, outcomes={"items": [[1, 2]]}).is_complete


# The end of the program


@pytest.mark.parametrize("when", ["before", "in"])
@pytest.mark.parametrize("bad", [set[int](), {1}], ids=["good", "bad"])
def test_wherever_the_program_dies_it_goes_on_in_the_children_it_had(
    when: Any, bad: set[int]
) -> None:
    """Each step of each child succeeds once, in the first child of its item, in the same order."""
    for number in range(1, 99):
        log = MortalLog([(when, number)])
        app = OAutom(log=log, executor="inline", clock=SimulatedClock())
        with suppress(Crash):
            app.run(declare(app, [0, 1, 2], failing(bad))[0], vect_id="v")
            break
        left = MemoryEventLog()
        for event in log.read():
            left.append(None, event)
        left.commit()
        with OAutom(log=left, executor="inline", clock=SimulatedClock()) as again:
            main, _ = declare(again, [0, 1, 2], failing(bad))
            vect = again.run(main, vect_id="v")
            assert vect.state == ("failed" if bad else "success")
            done = [
                (event.vect[len("v/each[")], event.step)
                for event in left.read()
                if event.flow == "inner" and event.name == "step.succeeded"
            ]
            items = [item for item in "012" if int(item) not in bad]
            assert done == [(item, step) for item in items for step in "abc"]
            assert {each.id for each in again.vects("inner")} == {
                f"v/each[{item}]/1" for item in "012"
            }
            check(again)
    assert number > 10


def test_recovered_children_go_on_before_others_begin(tmp_path: Path) -> None:
    """Also where the places in the queue are made anew: the items that ran come before the next."""
    gate = Gate()
    path = tmp_path / "runs.db"
    app = OAutom(OAutomMode.background, log=path, max_workers=2)
    main, _ = held_children(app, gate, 6)
    app.start(main, vect_id="v")
    assert gate.reached.wait(SECONDS)
    gate.opened.set()
    app.close()
    with OAutom(executor="inline", log=path) as again:
        main, _ = held_children(again, gate, 6)
        vect = again.run(main, vect_id="v")
        assert vect.state == "success"
        starts = [item for item, _ in order_of(again)]
        last = {item: index for index, item in enumerate(starts)}
        assert sorted(last.values()) == [last[str(item)] for item in range(6)]
        check(again)
