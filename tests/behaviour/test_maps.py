"""Maps: one call for each item of a list, which is known only when it is there."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from oautom import (
    ApprovalExecution,
    Context,
    Flow,
    FlowError,
    MapExecution,
    OAutom,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
    Skip,
)
from oautom.testing import SimulatedClock, assert_replays, check_history, explore, simulate

from .conftest import SECONDS, nothing, runs_well
from .worker_functions import double


def items_of(flow: Flow, items: Any) -> PythonExecution:
    return PythonExecution("items", flow, lambda: items)


def check(app: OAutom, flow: Flow, **more: Any) -> None:
    check_history(app.log.read(), flow, **more)
    assert_replays(app.log, flow)


def test_a_function_is_called_for_each_item_and_the_output_is_in_order(any_app: OAutom) -> None:
    flow = Flow("flow", any_app)
    squares = MapExecution(
        "squares", flow, lambda n, power: n**power, items_of(flow, [3, 1, 2]), kwargs={"power": 2}
    )
    PythonExecution("total", flow, sum, [squares])
    vect = any_app.run(flow)

    assert (vect.result("squares"), vect.result("total")) == ([9, 1, 4], 14)
    assert [name for name in vect.steps if name.startswith("squares[")] == [
        *("squares[0]", "squares[1]", "squares[2]")
    ]
    assert vect.result("squares[2]") == 4
    check(any_app, flow)


def test_an_empty_list_is_an_empty_list(any_app: OAutom) -> None:
    flow = Flow("flow", any_app)
    MapExecution("map", flow, nothing_of, items_of(flow, []))
    vect = any_app.run(flow)

    assert (vect.state, vect.result("map")) == ("success", [])
    check(any_app, flow)


def nothing_of(item: Any) -> None:
    """Do nothing with an item."""


@pytest.mark.parametrize(
    ("items", "error"),
    [
        ({"a": 1}, "over must be a list, but items.output is a dict: {'a': 1}"),
        ("abc", "over must be a list, but items.output is a str: 'abc'"),
        (None, "over must be a list, but items.output is a NoneType: None"),
    ],
)
def test_what_is_no_list_fails_the_map(any_app: OAutom, items: Any, error: str) -> None:
    flow = Flow("flow", any_app)
    MapExecution("map", flow, nothing_of, items_of(flow, items)) >> PythonExecution(
        "after", flow, nothing
    )
    vect = any_app.run(flow)

    assert vect.steps["map"].error == error
    assert vect.steps["after"].state == "upstream_failed"
    check(any_app, flow)


def test_parts_of_outputs_and_parameters_are_lists_too(inline: OAutom) -> None:
    flow = Flow("flow", inline, params={"days": list[date]})
    items = items_of(flow, {"a": {"b": [1, 2]}})
    MapExecution("part", flow, lambda n: n + 1, items.output["a"]["b"])
    MapExecution("none", flow, nothing_of, items.output["c"])
    MapExecution("days", flow, date.isoformat, flow.param("days"))
    vect = inline.run(flow, {"days": ["2026-11-24"]})

    assert (vect.result("part"), vect.result("days")) == ([2, 3], ["2026-11-24"])
    assert "items.output has no part ['c'], it is a dict" in (vect.steps["none"].error or "")
    check(inline, flow)


class Rows(NamedTuple):
    table: str
    ids: list[int]


class Found(msgspec.Struct, rename="camel"):
    row_ids: list[int]


@pytest.mark.parametrize("is_durable", [True, False])
def test_a_part_is_found_however_a_log_has_the_whole(
    new_app: Any, tmp_path: Path, is_durable: bool
) -> None:
    def named() -> Rows:
        return Rows("sales", [1, 2])

    def numbered() -> dict[int, list[int]]:
        return {7: [1, 2]}

    def renamed() -> Found:
        return Found([1, 2])

    app = new_app(executor="inline", log=tmp_path / "runs.db" if is_durable else None)
    flow = Flow("flow", app)
    for function, key in ((named, "ids"), (numbered, 7), (renamed, "row_ids")):
        source = PythonExecution(function.__name__, flow, function)
        MapExecution(f"over {function.__name__}", flow, abs, source.output[key])
    vect = app.run(flow)

    assert vect.state == "success", [step.error for step in vect.steps.values()]
    assert {str(vect.result(name)) for name in flow.steps if "over" in name} == {"[1, 2]"}
    check(app, flow)


def test_an_instance_that_fails_leaves_the_others_and_fails_the_map(any_app: OAutom) -> None:
    def halve(n: int) -> int:
        if n % 2:
            raise ValueError(f"{n} is odd")
        return n // 2

    flow = Flow("flow", any_app)
    MapExecution("halves", flow, halve, items_of(flow, [2, 3, 4, 5]))
    vect = any_app.run(flow)

    assert vect.state == "failed"
    states = [vect.steps[f"halves[{i}]"].state for i in range(4)]
    assert states == ["success", "failed", "success", "failed"]
    assert vect.steps["halves"].error == (
        "2 of its 4 items failed, first halves[1]: ValueError: 3 is odd"
    )
    check(any_app, flow)


def test_instances_are_tried_again_and_skip_themselves_each_by_itself(inline: OAutom) -> None:
    def work(n: int, context: Context) -> int:
        if n == 0:
            raise Skip("nothing to do")
        if context.attempt < n:
            raise ValueError("not yet")
        return n

    flow = Flow("flow", inline)
    policy = RetryPolicy(max_attempts=3, delay=0)
    MapExecution("map", flow, work, items_of(flow, [0, 1, 2, 3]), retry=policy)
    vect = inline.run(flow)

    assert vect.result("map") == [None, 1, 2, 3]
    assert [vect.steps[f"map[{i}]"].attempt for i in range(4)] == [1, 1, 2, 3]
    check(inline, flow)


def test_at_most_max_parallel_run_at_once(new_app: Any) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def work(n: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.005)
        with lock:
            running -= 1

    app = new_app(OAutomMode.background, max_workers=8)
    flow = Flow("flow", app)
    MapExecution("map", flow, work, items_of(flow, list(range(20))), max_parallel=3)

    assert app.run(flow).state == "success"
    assert most == 3
    check(app, flow, max_workers=8)


def test_in_worker_processes(new_app: Any) -> None:
    app = new_app(executor="processes", max_workers=2)
    flow = Flow("flow", app)
    items = PythonExecution("items", flow, list, [(1, 2, 3)])
    MapExecution("map", flow, double, items)

    assert app.run(flow).result("map") == [2, 4, 6]


def test_items_and_outputs_have_their_types_in_a_durable_log(tmp_path: Path) -> None:
    def days() -> list[date]:
        return [date(2026, 11, 24), date(2026, 11, 25)]

    def first(day: date) -> date:
        return day.replace(day=1)

    with OAutom(log=tmp_path / "runs.db") as app:
        flow = Flow("flow", app)
        MapExecution("map", flow, first, PythonExecution("days", flow, days))
        vect = app.run(flow, vect_id="one")
        assert vect.result("map") == [date(2026, 11, 1)] * 2
        assert vect.result("map[1]") == date(2026, 11, 1)
        assert vect.steps["map[0]"].output == date(2026, 11, 1)
        check(app, flow)


def test_an_item_that_is_no_longer_of_its_type_fails_its_instance_only(tmp_path: Path) -> None:
    def numbers() -> list[int]:
        return [7, 8]

    def days() -> list[date]:
        return []

    def declare(app: OAutom, source: Any) -> Flow:
        flow = Flow("flow", app)
        items = PythonExecution("items", flow, source)
        items >> ApprovalExecution("gate", flow, "go on?") >> MapExecution("map", flow, str, items)
        return flow

    with OAutom(log=tmp_path / "runs.db") as app:
        vect = app.start(declare(app, numbers), vect_id="one")
        while vect.steps["gate"].state != "running":
            with suppress(TimeoutError):
                vect.wait(0.01)
    with OAutom(log=tmp_path / "runs.db") as app:
        flow = declare(app, days)
        vect = app.recover()[0]
        vect.approve("gate", by="Ada")
        assert vect.wait(SECONDS) == "failed"
        error = (
            "FlowError: the item of step 'map[0]' of flow 'flow' in vect 'one' is 7, which does "
            "not fit its type any more"
        )
        assert str(vect.steps["map[0]"].error).startswith(error)
        assert runs_well(app)
        check(app, flow)


def test_what_has_skipped_itself_is_none_for_all_that_use_the_list(tmp_path: Path) -> None:
    def only_odd(n: int) -> date:
        if n % 2 == 0:
            raise Skip("even")
        return date(2026, 11, n)

    def year(day: date | None) -> int:
        return day.year if day else 0

    def count(days: list[date], second: date) -> list[int]:
        return [len(days), second.day]

    with OAutom(log=tmp_path / "runs.db") as app:
        flow = Flow("flow", app)
        days = MapExecution("days", flow, only_odd, items_of(flow, [2, 3]))
        MapExecution("years", flow, year, days)
        PythonExecution("count", flow, count, [days, days.output[1]])
        vect = app.run(flow)

        assert vect.result("days") == [None, date(2026, 11, 3)]
        assert (vect.result("years"), vect.result("count")) == ([0, 2026], [2, 3])
        check(app, flow)


def test_only_what_has_failed_of_a_map_is_retried(inline: OAutom) -> None:
    calls: list[int] = []

    def work(n: int) -> int:
        calls.append(n)
        if n == 2 and calls.count(2) == 1:
            raise ValueError("no")
        return n

    flow = Flow("flow", inline)
    mapped = MapExecution("map", flow, work, items_of(flow, [1, 2, 3]))
    PythonExecution("total", flow, sum, [mapped])
    vect = inline.run(flow)
    assert (vect.state, calls) == ("failed", [1, 2, 3])
    vect.retry()

    assert (vect.wait(), calls, vect.result("total")) == ("success", [1, 2, 3, 2], 6)
    check(inline, flow)


def test_all_that_has_failed_is_retried_where_one_runs_at_a_time(new_app: Any) -> None:
    app, calls = new_app(max_workers=4), list[int]()

    def work(n: int) -> None:
        calls.append(n)
        if len(calls) <= 3:
            raise ValueError("not yet")

    flow = Flow("flow", app)
    MapExecution("map", flow, work, items_of(flow, [1, 2, 3]), max_parallel=1)
    vect = app.run(flow)
    assert (vect.state, calls) == ("failed", [1, 2, 3])
    vect.retry()

    assert (vect.wait(SECONDS), calls) == ("success", [1, 2, 3] * 2)
    check(app, flow)


def test_a_list_stays_where_only_what_comes_after_its_map_is_retried(inline: OAutom) -> None:
    calls: list[int] = []

    flow = Flow("flow", inline)
    mapped = MapExecution("map", flow, calls.append, items_of(flow, [1, 2, 3]))
    mapped >> PythonExecution("gate", flow, lambda: vect.cancel())
    vect = inline.start(flow)
    assert (vect.wait(), calls) == ("cancelled", [1, 2, 3])
    vect.retry()

    vect.wait()
    assert calls == [1, 2, 3]


class Renewed:
    """A flow whose map has a list that is made anew when its Vect is retried."""

    def __init__(self, app: OAutom, *lists: list[int] | Exception) -> None:
        self.lists, self.calls = iter(lists), list[int]()
        self.flow = Flow("flow", app)
        before = PythonExecution("before", self.flow, self.fail_at_first)
        items = PythonExecution("items", self.flow, self.make, trigger_rule="all_done")
        items.depends(before)
        MapExecution("map", self.flow, self.work, items)
        self.attempts = 0

    def fail_at_first(self) -> None:
        self.attempts += 1
        if self.attempts == 1:
            raise ValueError("not yet")

    def make(self) -> list[int]:
        if isinstance(made := next(self.lists), Exception):
            raise made
        return made

    def work(self, item: int) -> int:
        self.calls.append(item)
        return item


@pytest.mark.parametrize("second", [[4, 5], [6, 7, 8, 9], []], ids=str)
def test_a_list_that_is_made_anew_may_be_longer_or_shorter(
    inline: OAutom, second: list[int]
) -> None:
    made = Renewed(inline, [1, 2, 3], second)
    vect = inline.run(made.flow)
    assert (vect.state, made.calls) == ("failed", [1, 2, 3])
    vect.retry()

    assert (vect.wait(), vect.result("map")) == ("success", second)
    assert made.calls == [1, 2, 3, *second]
    states = [vect.steps[f"map[{each}]"].state for each in range(max(3, len(second)))]
    assert states == ["success"] * len(second) + ["skipped"] * (3 - len(second))
    if len(second) < 3:
        assert vect.steps["map[2]"].error == "the list of its map is shorter now"
    check(inline, made.flow)


@pytest.mark.parametrize(
    ("second", "state"), [(ValueError("no list"), "upstream_failed"), (Skip("none"), "skipped")]
)
def test_what_a_map_had_is_skipped_where_it_does_not_run_again(
    inline: OAutom, second: Exception, state: str
) -> None:
    """Or its Vect would be open for ever."""
    made = Renewed(inline, [1, 2], second)
    vect = inline.run(made.flow)
    assert (vect.state, made.calls) == ("failed", [1, 2])
    vect.retry()

    vect.wait()
    states = [vect.steps[name].state for name in ("map", "map[0]", "map[1]")]
    assert (states, made.calls) == ([state, "skipped", "skipped"], [1, 2])
    assert vect.explain("map[1]").endswith(": its map does not run this time")
    check(inline, made.flow)


def test_what_a_map_had_is_skipped_where_its_vect_was_paused_before(
    inline: OAutom, connect: Any
) -> None:
    made = Renewed(inline, [1, 2], ValueError("no list"))
    vect = inline.run(made.flow)

    def pause(sender: Flow, event: Any) -> None:
        vect.pause()

    connect(pause, "vect.reopened", sender=made.flow)
    vect.retry()
    with pytest.raises(TimeoutError):
        vect.wait(timeout=0.01)
    states = [vect.steps[name].state for name in ("before", "map", "map[0]")]
    assert (vect.state, states) == ("paused", ["success", "pending", "pending"])
    assert vect.explain("map[1]").startswith(
        "`map[1]` was reset by a retry of its vect, and waits for `map`, which itself waits for "
        "`items`; its vect is paused"
    )
    vect.resume()

    assert vect.wait() == "failed"
    check(inline, made.flow)


def test_a_map_is_cancelled_with_its_instances(any_app: OAutom, connect: Any) -> None:
    flow = Flow("flow", any_app)
    MapExecution("map", flow, nothing_of, items_of(flow, list(range(50))), max_parallel=1)

    def stop(sender: Flow, event: Any) -> None:
        if event.step == "map[3]":
            any_app.vect(event.vect).cancel("enough")

    connect(stop, "step.started", sender=flow)
    vect = any_app.start(flow)

    assert vect.wait(SECONDS) == "cancelled"
    assert vect.steps["map[49]"].state == vect.steps["map"].state == "cancelled"
    check_history(any_app.log.read(), flow)


def test_a_map_that_may_fail_fails_no_vect(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    MapExecution("map", flow, lambda n: 1 // n, items_of(flow, [1, 0]), allow_failure=True)

    assert inline.run(flow).state == "success"
    check(inline, flow)


@pytest.mark.parametrize(
    "crash_at", [(when, n) for when in ("before", "in", "after") for n in (2, 3, 4)]
)
def test_a_half_expanded_map_goes_on_in_the_next_life(inline: OAutom, crash_at: Any) -> None:
    flow = Flow("flow", inline)
    mapped = MapExecution("map", flow, nothing_of, items_of(flow, None), max_parallel=2)
    PythonExecution("after", flow, len, [mapped])
    ends = {"items": [["a", "b", "c", "d"]], "map[2]": 7, "map": 1}
    vect = simulate(flow, outcomes=ends, durations={"map": 5, "map[1]": 9}, crash_at=crash_at)

    assert (vect.state, vect.result("map")) == ("success", [1, 1, 7, 1])
    check_history(vect.events(), flow)
    assert_replays(vect, flow)


def test_a_map_is_simulated_like_a_run_and_explored(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    MapExecution("map", flow, lambda n: n * 2, items_of(flow, [1, 2]))
    vect = inline.run(flow)

    assert simulate(flow, like=vect).result("map") == [2, 4]
    found = explore(flow, outcomes={"items": [[1, 2]]})
    assert (found.schedules, len(found.ends)) == (2, 1)


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (
            lambda flow: MapExecution("map", flow, nothing_of, [1, 2]),
            "over must be a step, a part of its output, or a parameter of the flow, not",
        ),
        (
            lambda flow: MapExecution("map", flow, nothing_of, items_of(flow, []), max_parallel=0),
            "max_parallel must be a positive int or None, not 0",
        ),
        (
            lambda flow: MapExecution("map", flow, nothing, items_of(flow, [])),
            "cannot be called with these arguments",
        ),
    ],
)
def test_what_cannot_be_mapped_is_refused(inline: OAutom, declare: Any, message: str) -> None:
    with pytest.raises(FlowError, match=f"step 'map' of flow 'flow': .*{message}"):
        declare(Flow("flow", inline))


def test_names_of_instances_are_taken(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    MapExecution("map", flow, nothing_of, items_of(flow, []))
    PythonExecution("map[7]", flow, nothing)
    with pytest.raises(FlowError, match=r"an instance of it would be 'map\[7\]'; rename it"):
        inline.run(flow)


def test_a_dictionary_is_refused_before_the_run_where_it_is_annotated(inline: OAutom) -> None:
    def give() -> dict[str, int]:
        return {}

    flow = Flow("flow", inline)
    MapExecution("map", flow, nothing_of, PythonExecution("give", flow, give))
    with pytest.raises(FlowError, match="step 'map' of flow 'flow'"):
        flow.validate()


def test_on_the_simulated_clock_the_instances_run_side_by_side() -> None:
    with OAutom(executor="inline", clock=SimulatedClock()) as app:
        flow = Flow("flow", app)
        MapExecution("map", flow, nothing_of, items_of(flow, None))
        vect = simulate(flow, outcomes={"items": [[1] * 100]}, durations={"map": 60})
        events = vect.events()
        assert (events[-1].time - events[0].time).total_seconds() == 60
