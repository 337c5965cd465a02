"""`simulate` and its clock: the real engine, no real time, no real work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    CycleError,
    EngineError,
    Execution,
    Flow,
    MemoryEventLog,
    OAutom,
    PythonExecution,
    SettingError,
    UnknownStepError,
    Vect,
)
from oautom.events import replay, signals
from oautom.testing import SimulatedClock, check_history, simulate


def never() -> None:
    raise AssertionError("a simulation does no work")


def flow_of(edges: str, steps: str) -> Flow:
    """Declare steps by their letters, and edges as 'ab bc'."""
    flow = Flow("flow", OAutom())
    for name in steps:
        PythonExecution(name, flow, never)
    for upstream, step in edges.split():
        flow.steps[step].depends(flow.steps[upstream])
    return flow


def seconds(vect: Vect) -> float:
    return (vect.events()[-1].time - vect.events()[0].time).total_seconds()


def order(vect: Vect) -> str:
    return "".join(str(e.step) for e in vect.events() if e.name == "step.succeeded")


def as_text(vect: Vect, folder: Path) -> str:
    log = MemoryEventLog()
    for event in vect.events():
        log.append(None, event)
    log.commit()
    log.to_jsonl(folder / "log.jsonl")
    return (folder / "log.jsonl").read_text()


def test_three_days_take_no_time_and_stand_in_the_log() -> None:
    vect = simulate(flow_of("ab bc", "abc"), durations={"a": 86400, "b": 86400, "c": 86400})

    assert vect.state == "success"
    assert seconds(vect) == 3 * 86400
    check_history(vect.events(), vect.flow)
    assert replay(vect.events())[vect.id].facts() == vect._run.state.facts()


def test_ten_thousand_steps_are_a_small_matter() -> None:
    flow = Flow("flow", OAutom())
    steps = [PythonExecution(str(i), flow, never) for i in range(10_000)]
    for i in range(1, len(steps)):
        steps[i].depends(steps[i // 2])

    assert simulate(flow).state == "success"


def test_the_same_seed_is_the_same_log_byte_for_byte(tmp_path: Path) -> None:
    flow = flow_of("ae be ce de", "abcde")
    texts = {seed: as_text(simulate(flow, seed=seed), tmp_path) for seed in range(8)}

    assert all(as_text(simulate(flow, seed=seed), tmp_path) == texts[seed] for seed in texts)


def test_other_seeds_are_other_orders_of_what_ends_at_one_instant() -> None:
    flow = flow_of("ae be ce de", "abcde")

    assert len({order(simulate(flow, seed=seed)) for seed in range(20)}) > 5
    assert {order(simulate(flow, durations=dict(zip("abcd", range(4), strict=True)), seed=seed))
            for seed in range(5)} == {"abcde"}  # fmt: skip


def test_an_exception_fails_the_step_and_blocks_what_waits_for_it() -> None:
    vect = simulate(flow_of("ab bc", "abc"), outcomes={"a": 7, "b": ValueError("no")})

    assert [step.state for step in vect.steps.values()] == ["success", "failed", "upstream_failed"]
    assert vect.result("a") == 7
    assert vect.steps["b"].error == "ValueError: no"


def test_a_list_holds_an_outcome_and_a_duration_for_each_attempt() -> None:
    vect = simulate(flow_of("", "a"), outcomes={"a": [[1, 2], 3]}, durations={"a": [5.0, 9.0]})

    assert vect.result("a") == [1, 2]
    assert seconds(vect) == 5


@pytest.mark.parametrize(("workers", "makespan"), [(1, 10), (2, 6), (3, 4), (None, 4)])
def test_workers_are_given_to_whoever_came_first(workers: int | None, makespan: float) -> None:
    durations = {"a": 2, "b": 3, "c": 4, "d": 1}  # two: a 0-2, b 0-3, c 2-6, d 3-4

    vect = simulate(flow_of("", "abcd"), durations=durations, max_workers=workers)

    assert seconds(vect) == makespan
    check_history(vect.events(), vect.flow, max_workers=workers)


def test_a_past_run_can_be_run_again_with_other_workers_and_another_flow() -> None:
    first = simulate(
        flow_of("ac bc", "abc"), durations={"a": 5, "b": 7}, outcomes={"c": KeyError("x"), "a": 1}
    )

    again = simulate(first.flow, like=first)
    assert (seconds(again), again.state) == (7, "failed")
    assert (again.result("a"), again.steps["c"].error) == (1, first.steps["c"].error)
    assert seconds(simulate(first.flow, like=first, max_workers=1)) == 12
    today = flow_of("ab bc cd", "abcd")
    assert seconds(simulate(today, like=first, outcomes={"c": None}, durations={"d": 3})) == 15


def test_a_polled_step_is_asked_at_its_interval() -> None:
    class Polled(Execution):
        poll_interval = 10

        def run(self, context: Any) -> None:
            never()

        def check(self, context: Any) -> bool:
            raise AssertionError("a simulation does no work")

    flow = Flow("flow", OAutom())
    Polled("a", flow)

    assert seconds(simulate(flow, durations={"a": 35})) == 40


def test_it_begins_when_told() -> None:
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)

    assert simulate(flow_of("", "a"), start=start).events()[0].time == start


def test_neither_signals_nor_the_app_nor_the_flow_notice() -> None:
    flow, heard = flow_of("ab", "ab"), []
    with signals.event.connected_to(lambda flow, event: heard.append(event)):
        simulate(flow)

    assert heard == []
    assert flow.app.vects() == []
    PythonExecution("later", flow, never)  # it is not frozen


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"durations": {"x": 1}}, UnknownStepError, "'x'"),
        ({"outcomes": {"x": 1}}, UnknownStepError, "'x'"),
        ({"durations": {"a": -1}}, SettingError, "durations['a']"),
        ({"durations": {"a": "long"}}, SettingError, "durations['a']"),
        ({"outcomes": {"a": []}}, SettingError, "first attempt"),
        ({"max_workers": 0}, SettingError, "max_workers"),
        ({"start": datetime(2026, 1, 1)}, SettingError, "time zone"),  # noqa: DTZ001
    ],
)
def test_a_wrong_argument_is_told(arguments: Any, error: type[Exception], word: str) -> None:
    with pytest.raises(error) as caught:
        simulate(flow_of("", "a"), **arguments)
    assert word in str(caught.value)


def test_what_is_no_flow_and_what_has_a_cycle_is_refused() -> None:
    with pytest.raises(SettingError, match="needs a Flow, not 'flow'"):
        simulate("flow")  # type: ignore[arg-type]
    with pytest.raises(CycleError, match=r"a -> b -> a|b -> a -> b"):
        simulate(flow_of("ab ba", "ab"))


# The clock by itself


def test_time_passes_when_it_is_told_to_with_what_was_to_happen() -> None:
    clock, called = SimulatedClock(), []
    clock.call_later(3, lambda: called.append(clock.monotonic()))
    clock.advance(2)
    assert called == []
    clock.advance(2)

    assert called == [3]
    assert clock.monotonic() == 4
    assert clock.now() - SimulatedClock().now() == timedelta(seconds=4)
    with pytest.raises(SettingError, match="forward only"):
        clock.advance(-1)


def test_a_wait_that_would_never_end_is_told() -> None:
    app = OAutom(clock=SimulatedClock())  # threads take real time, which this clock has not
    flow = Flow("flow", app)
    PythonExecution("a", flow, int)
    clock = SimulatedClock()
    with pytest.raises(EngineError, match="executor='inline'"):
        clock.take(app._engine._scheduler._inbox, None)


def test_an_app_can_run_on_it() -> None:
    class Waits(Execution):
        poll_interval = 3600

        def run(self, context: Any) -> list[int]:
            return []

        def check(self, context: Any) -> bool:
            context.output.append(1)
            return len(context.output) == 48

    with OAutom(executor="inline", clock=SimulatedClock()) as app:
        flow = Flow("flow", app)
        Waits("a", flow)
        vect = app.run(flow)

    assert vect.state == "success"
    assert seconds(vect) == 48 * 3600
