"""The strategies: what they draw can be used, and what is left of a failing example is small."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from oautom import (
    BashExecution,
    Execution,
    Flow,
    MapExecution,
    OAutom,
    Pool,
    PythonExecution,
    SettingError,
    Skip,
    Vect,
)
from oautom.machine import decide
from oautom.machine.tables import EVENT_NAMES, PLAN_EVENTS
from oautom.testing import check_history, durations, explore, flows, histories, outcomes, simulate

T = TypeVar("T")

moderate = settings(deadline=None, max_examples=30)


def smallest(strategy: st.SearchStrategy[T], is_wanted: Callable[[T], bool]) -> T:
    """Return what is left of the first value that is wanted when it has been made smaller."""
    phases = (Phase.generate, Phase.shrink)
    few = settings(database=None, max_examples=1000, deadline=None, phases=phases)
    return find(strategy, is_wanted, settings=few, random=Random(3))


def edges_of(flow: Flow) -> list[tuple[str, str]]:
    return [(up, name) for name, ups in flow.graph.upstreams.items() for up in ups]


# Flows


@moderate
@given(flows())
def test_a_flow_is_acyclic_by_its_order_of_declaration_and_runs(flow: Flow) -> None:
    place = {name: i for i, name in enumerate(flow.steps)}
    assert all(place[upstream] < place[step] for upstream, step in edges_of(flow))
    assert simulate(flow).state == "success"

    vect = flow.app.run(flow)
    assert vect.state == "success"
    check_history(vect.events(), flow, max_workers=1)
    assert {event.time.isoformat() for event in vect.events()} == {"2000-01-01T00:00:00+00:00"}


@moderate
@given(st.data(), st.integers(0, 4), st.integers(0, 4))
def test_a_flow_has_as_many_steps_as_asked_for(data: st.DataObject, least: int, more: int) -> None:
    flow = data.draw(flows(min_steps=least, max_steps=least + more))

    assert least <= len(flow.steps) <= least + more


@moderate
@given(flows(max_steps=5), flows(max_steps=5))
def test_every_flow_has_an_app_of_its_own(one: Flow, other: Flow) -> None:
    assert one.app is not other.app
    assert one.app.flows() == other.app.flows() == [one.name]


class Polled(Execution):
    def run(self, context: Any) -> None: ...

    def check(self, context: Any) -> bool:
        return True


@moderate
@given(
    flows(
        max_steps=4,
        names=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
        steps=st.sampled_from([Polled, partial(BashExecution, command="true")]),
    )
)
def test_names_and_kinds_of_steps_can_be_said(flow: Flow) -> None:
    assert all(isinstance(step, Polled | BashExecution) for step in flow.steps.values())
    assert all(name.isalnum() for name in flow.steps)


@settings(deadline=None, max_examples=3)
@given(flows(min_steps=30, max_steps=40))
def test_more_steps_than_letters_have_names_too(flow: Flow) -> None:
    assert {"z", "aa", "ab", "ac", "ad"} <= set(flow.steps)


def is_mapped(flow: Flow) -> bool:
    return any(isinstance(step, MapExecution) for step in flow.steps.values())


LIMITED: dict[str, tuple[Callable[[Flow], Any], str]] = {
    "a pool": (lambda flow: any(step.pool for step in flow.steps.values()), "a (pool one: 1)"),
    "a pool of two": (lambda flow: Pool("two", 2) in [step.pool for step in flow.steps.values()],
                      "a (pool two: 2)"),
    "a priority": (lambda flow: any(step.priority for step in flow.steps.values()),
                   "a (priority 1)"),
    "a low priority": (lambda flow: any(step.priority < 0 for step in flow.steps.values()),
                       "a (priority -1)"),
    "async": (lambda flow: any(step.is_async for step in flow.steps.values()), "a (async)"),
    "a map": (is_mapped, "a; b << [a] (map, over a)"),
    "a limited map": (lambda flow: is_mapped(flow) and "max_parallel" in flow.options.get("b", {}),
                      "a; b << [a] (map, over a, max_parallel 1)"),
}  # fmt: skip


@pytest.mark.parametrize(("is_wanted", "steps"), LIMITED.values(), ids=LIMITED)
def test_the_smallest_flow_with_a_limit_is_left(
    is_wanted: Callable[[Flow], Any], steps: str
) -> None:
    drawn = smallest(flows(limits=True, maps=True, asyncs=True), is_wanted)

    assert repr(drawn) == f"<Flow 'flow': {steps}>"


def any_step(flow: Flow, option: str) -> bool:
    return any(getattr(step, option) for step in flow.steps.values())


CLEAN_UPS: dict[str, tuple[Callable[[Flow], Any], str]] = {
    "a teardown": (lambda flow: any_step(flow, "teardown"), ": a; b << [a] (teardown)"),
    "a teardown of": (lambda flow: any_step(flow, "teardown_of"),
                      ": a; b << [a] (teardown, of a)"),
    "a compensation": (lambda flow: any_step(flow, "compensation"), ": a (compensate)"),
    "a compensation on success": (
        lambda flow: any(step.compensate_on == "success" for step in flow.steps.values()),
        ": a (compensate on success)",
    ),
    "a run_timeout": (lambda flow: flow.run_timeout, " (run_timeout 6): no steps"),
    "on_failure": (lambda flow: flow.on_failure != "finish", " (on_failure cancel): no steps"),
}  # fmt: skip


@pytest.mark.parametrize(("is_wanted", "told"), CLEAN_UPS.values(), ids=CLEAN_UPS)
def test_the_smallest_flow_with_clean_up_is_left(
    is_wanted: Callable[[Flow], Any], told: str
) -> None:
    assert repr(smallest(flows(clean_ups=True), is_wanted)) == f"<Flow 'flow'{told}>"


def test_what_undoes_the_work_of_a_step_or_an_instance_fails_and_takes_time_too() -> None:
    flow = Flow("flow", OAutom())
    listing = PythonExecution("a", flow, list, compensate=print)
    MapExecution("b", flow, str, listing, compensate=print)
    names = {"a.compensate", *(f"b[{index}].compensate" for index in range(3))}

    for strategy in (outcomes(flow), durations(flow)):
        for name in names:
            assert name in smallest(strategy, lambda drawn, name=name: name in drawn)
    ends = {"a": [[1, 2]], "b[1]": ValueError("no"), "b[0].compensate": OSError("no")}
    told = [event.name for event in simulate(flow, outcomes=ends).events() if event.step == "b[0]"]
    assert told[-2:] == ["step.compensating", "step.compensation_failed"]


def test_the_smallest_flow_that_runs_another_is_left() -> None:
    drawn = smallest(flows(children=True), lambda flow: "flow" in kinds(flow))

    assert repr(drawn) == "<Flow 'flow': a (flow, inner)>"


def test_the_smallest_flow_that_waits_until_what_a_step_returns_is_left() -> None:
    drawn = smallest(flows(instants=True), lambda flow: "wait" in kinds(flow))

    assert repr(drawn) == "<Flow 'flow': a; b << [a] (wait, until a)>"


def test_the_smallest_flow_whose_vects_wait_for_their_turn_is_left() -> None:
    drawn = smallest(flows(turns=True), lambda flow: flow.when_full == "wait")

    assert repr(drawn) == "<Flow 'flow', 1 at once: no steps>"


def kinds(flow: Flow) -> set[str]:
    return {step.kind for step in flow.steps.values()}


@moderate
@given(st.data())
def test_every_kind_of_step_that_is_drawn_may_stand_before_a_map(data: st.DataObject) -> None:
    flow = data.draw(
        flows(
            waits=True,
            branches=True,
            forwarding=True,
            limits=True,
            maps=True,
            maps_of_flows=True,
            children=True,
            asyncs=True,
            instants=True,
            clean_ups=True,
            secrets=True,
        )
    )

    flow.validate()
    ends = data.draw(outcomes(flow, max_attempts=2))
    vect = simulate(flow, outcomes=ends, durations=data.draw(durations(flow)), max_workers=2)
    assert vect.state in ("success", "failed")
    check_history(vect.events(), flow, max_workers=2)


# What is left of a failing example


def has_diamond(flow: Flow) -> bool:
    upstreams = flow.graph.upstreams
    return any(
        set(upstreams[one]) & set(upstreams[other])
        for joined in upstreams.values()
        for one in joined
        for other in joined
        if one < other
    )


SMALLEST: dict[str, tuple[Callable[[Flow], Any], str]] = {
    "any": (lambda flow: True, "no steps"),
    "a step": (lambda flow: flow.steps, "a"),
    "an edge": (edges_of, "a; b << [a]"),
    "a join": (lambda flow: any(len(ups) == 3 for ups in flow.graph.upstreams.values()),
               "a; b; c; d << [a, b, c]"),
    "a diamond": (has_diamond, "a; b << [a]; c << [a]; d << [b, c]"),
    "names in another order": (lambda flow: list(flow.steps) != sorted(flow.steps), "b; a"),
}  # fmt: skip


@pytest.mark.parametrize(("is_wanted", "steps"), SMALLEST.values(), ids=SMALLEST)
def test_the_smallest_flow_is_left(is_wanted: Callable[[Flow], Any], steps: str) -> None:
    assert repr(smallest(flows(), is_wanted)) == f"<Flow 'flow': {steps}>"


def flows_and(more: Callable[[Flow], st.SearchStrategy[T]]) -> st.SearchStrategy[tuple[Flow, T]]:
    return flows().flatmap(lambda flow: st.tuples(st.just(flow), more(flow)))


def test_the_smallest_flow_with_a_blocked_step_has_two_steps_and_an_edge() -> None:
    def is_blocked(drawn: tuple[Flow, dict[str, Any]]) -> bool:
        flow, ends = drawn
        steps = simulate(flow, outcomes=ends).steps
        return "upstream_failed" in {step.state for step in steps.values()}

    flow, ends = smallest(flows_and(outcomes), is_blocked)
    assert repr(flow) == "<Flow 'flow': a; b << [a]>"
    assert repr(ends) == "{'a': RuntimeError('drawn')}"


def test_only_the_duration_that_matters_is_left() -> None:
    flow, seconds = smallest(
        flows_and(durations),
        lambda drawn: simulate(drawn[0], durations=drawn[1]).events()[-1].time.second >= 7,
    )

    assert (repr(flow), seconds) == ("<Flow 'flow': a>", {"a": 7})


CANCELLED = ["step.started", "step.cancelled", "vect.cancelled", "step.late_result"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("step.failed", ["step.started", "step.failed", "vect.failed"]),
        ("vect.cancelled", CANCELLED),
        ("step.late_result", CANCELLED),
    ],
)
def test_the_smallest_history_is_left(name: str, told: list[str]) -> None:
    history = smallest(histories(), lambda events: name in {event.name for event in events})

    assert list(history.flow.steps) == ["a"]
    assert [event.name for event in history] == ["vect.created", "vect.started", *told]


def test_a_history_shows_what_happened() -> None:
    has_two = lambda events: len({event.vect for event in events}) > 1  # noqa: E731
    history = smallest(histories(flows()), has_two)

    assert repr(history) == (
        "<History of <Flow 'flow': no steps>: "
        "vect-1: vect.created; vect-1: vect.started; vect-1: vect.succeeded; "
        "vect-2: vect.created; vect-2: vect.started; vect-2: vect.succeeded>"
    )


def test_a_planted_bug_is_found_in_the_smallest_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(upstreams: int, tally: dict[str, int]) -> str | None:
        return "start" if not upstreams or tally.get("success") else None

    monkeypatch.setattr(decide, "all_success", hasty)

    def is_too_early(flow: Flow) -> bool:
        told = [(event.name, event.step) for event in simulate(flow).events()]
        return any(
            told.index(("step.started", step)) < told.index(("step.succeeded", upstream))
            for upstream, step in edges_of(flow)
        )

    flow = smallest(flows(), is_too_early)
    assert repr(flow) == "<Flow 'flow': a; b; c << [a, b]>"


# Outcomes, durations, histories


@moderate
@given(st.data())
def test_outcomes_and_durations_are_taken_as_they_are_drawn(data: st.DataObject) -> None:
    flow = data.draw(flows(max_steps=4))
    ends = data.draw(outcomes(flow, outputs=st.lists(st.integers()), max_attempts=3))
    seconds = data.draw(durations(flow, max_seconds=5, max_attempts=2))

    vect = simulate(flow, outcomes=ends, durations=seconds)
    for name, step in vect.steps.items():
        first = ends.get(name, [None])
        first = first[0] if isinstance(first, list) else first
        end = {Skip: "skipped", RuntimeError: "failed"}.get(type(first), "success")
        assert step.state in ("upstream_failed", "skipped", end)
        if step.state == "success":
            assert step.output == first
    explore(flow, outcomes=ends, max_schedules=5)


FOUND: dict[str, Callable[[Vect], bool]] = {
    "an instance": lambda vect: "b[0]" in vect.steps,
    "an instance that fails": lambda vect: "items failed" in (vect.steps["b"].error or ""),
    "an output of an instance": lambda vect: any(vect.steps["b"].output or ()),
    "no list": lambda vect: "over must be a list" in (vect.steps["b"].error or ""),
    "no items": lambda vect: vect.steps["b"].output == [],
}


@pytest.mark.parametrize("is_wanted", FOUND.values(), ids=FOUND)
def test_outcomes_are_those_of_lists_and_of_instances(is_wanted: Callable[[Vect], bool]) -> None:
    flow = Flow("flow", OAutom())
    MapExecution("b", flow, str, PythonExecution("a", flow, list))

    ends = smallest(outcomes(flow), lambda ends: is_wanted(simulate(flow, outcomes=ends)))
    assert "a" in ends


def test_an_instance_takes_as_long_as_is_drawn_for_it() -> None:
    flow = Flow("flow", OAutom())
    MapExecution("b", flow, str, PythonExecution("a", flow, list))

    def takes_seven(seconds: dict[str, Any]) -> bool:
        vect = simulate(flow, outcomes={"a": [["x", "y"]]}, durations=seconds)
        spans = [
            (vect.steps[name].end_date - vect.steps[name].start_date).seconds
            for name in ("b[0]", "b[1]")
        ]
        return spans == [0, 7]

    assert smallest(durations(flow), takes_seven)["b[1]"] == 7


def test_something_is_said_of_instances_too() -> None:
    flow = Flow("flow", OAutom())
    MapExecution("b", flow, str, PythonExecution("a", flow, list))

    assert "b[1]" in smallest(outcomes(flow), lambda ends: "b[1]" in ends)


def test_histories_tell_of_pools_priorities_and_maps() -> None:
    told: set[str] = set()

    @settings(deadline=None, max_examples=400, derandomize=True, database=None)
    @given(histories())
    def look(history: Any) -> None:
        for event in history:
            told.update(*event.data.get("options", {}).values())

    look()
    assert told >= {"pool", "priority", "over", "max_parallel", "teardown_of", "compensate"}


def test_histories_of_a_map_tell_of_its_instances() -> None:
    flow = Flow("flow", OAutom())
    MapExecution("b", flow, str, PythonExecution("a", flow, list))

    found = smallest(histories(flow), lambda history: "b[0]" in {each.step for each in history})
    check_history(found, flow)


def test_outcomes_need_a_flow() -> None:
    refused = r"a Flow is needed, not .*flows\(\).*; draw the flow first"
    with pytest.raises(SettingError, match=refused):
        outcomes(flows())  # type: ignore[arg-type]


def test_the_histories_of_a_flow_are_those_of_this_flow() -> None:
    flow = Flow("mine", OAutom())
    PythonExecution("one", flow, int) >> PythonExecution("two", flow, int)

    @moderate
    @given(histories(flow, max_vects=3, max_workers=1))
    def check(history: Any) -> None:
        assert history.flow is flow
        assert {event.flow for event in history} == {"mine"}
        assert 1 <= len({event.vect for event in history}) <= 3
        check_history(history, flow)

    check()
    assert flow.app.vects() == []


def test_the_histories_together_tell_of_every_kind_of_event_of_vects_and_steps() -> None:
    seen: set[str] = set()

    @settings(deadline=None, max_examples=400, derandomize=True, database=None)
    @given(histories())
    def look(history: Any) -> None:
        seen.update(event.name for event in history)

    look()
    assert seen == set(EVENT_NAMES) - set(PLAN_EVENTS)


# Without Hypothesis


PROGRAM = """
import sys
sys.modules["hypothesis"] = None  # as if it were not installed
import oautom.testing
oautom.testing.simulate
try:
    from oautom.testing import flows
except ImportError as error:
    print(error)
"""


def test_that_hypothesis_is_missing_is_told_in_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == "oautom's strategies need Hypothesis: pip install 'oautom[testing]'\n"
