"""How long a run will still take: the numbers, by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oautom import Flow, MapExecution, OAutom, PythonExecution, RetryPolicy
from oautom.client.forecast import Forecast, Now, Past, forecast, past_of, told
from oautom.testing import SimulatedClock, simulate
from tests.kit import nothing

TIME = datetime(2026, 11, 24, tzinfo=UTC)
#      a 10 -> b 20 -> d 5;  a -> c 40 -> d
GRAPH = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
PAST = Past(3, {"a": [10, 10, 10], "b": [20, 20, 20], "c": [40, 40, 40], "d": [5, 5, 5]})


def left(
    past: Past = PAST, since: dict[str, float] | None = None, **states: str
) -> Forecast | None:
    begun = {step: TIME - timedelta(seconds=ago) for step, ago in (since or {}).items()}
    return forecast(Now(GRAPH, states, begun, TIME), past)


def seconds(*given: float, rough: bool = False) -> Forecast:
    low, likely, high = given * 3 if len(given) == 1 else given
    return Forecast(low, likely, high, rough)


def test_it_is_the_longest_path_through_what_has_not_ended() -> None:
    assert left() == seconds(55)
    assert left(a="success") == seconds(45)
    assert left(a="success", c="success") == seconds(25)
    assert left(a="success", b="skipped", c="failed") == seconds(5)
    assert left(**dict.fromkeys("abcd", "success")) == seconds(0)


def test_a_step_at_work_has_its_rest_left() -> None:
    assert left(since={"a": 4}, a="running") == seconds(51)
    assert left(since={"c": 30, "b": 3}, a="success", b="running", c="running") == seconds(22)


def test_one_that_takes_longer_is_compared_with_the_slower_ones() -> None:
    past = Past(4, PAST.seconds | {"a": [10, 20, 30, 40]})
    assert left(past, {"a": 0}, a="running") == seconds(62.5, 70, 77.5)
    assert left(past, {"a": 25}, a="running") == seconds(52.5, 55, 57.5)  # of 30 and 40
    assert left(past, {"a": 50}, a="running") == seconds(45, rough=True)  # as never before


def test_what_the_past_does_not_know_makes_it_rough() -> None:
    assert left(Past(0, {})) is None
    assert left(Past(3, {"x": [1.0]})) is None
    assert left(Past(2, PAST.seconds)) == seconds(55, rough=True)
    unknown = {step: took for step, took in PAST.seconds.items() if step != "c"}
    assert left(Past(3, unknown)) == seconds(35, rough=True)
    assert left(Past(3, unknown), c="success") == seconds(35)


def test_a_map_tells_by_itself_how_quick_its_items_are() -> None:
    begun = {"m": TIME - timedelta(seconds=30)}
    states = {"m": "running", "m[0]": "success", "m[1]": "running", "m[2]": "pending"}
    now = Now({"m": ()}, states, begun, TIME)
    assert forecast(now, Past(3, {"m": [90, 90, 90]})) == seconds(60)
    none = now._replace(states=states | {"m[0]": "running"})
    assert forecast(none, Past(3, {"m": [90, 90, 90]})) == seconds(60)


def test_the_past_is_how_long_steps_took_with_their_retries_and_waits() -> None:
    flow = Flow("flow", OAutom())
    a = PythonExecution("a", flow, nothing, retry=RetryPolicy(max_attempts=2, delay=7, jitter=0))
    b, c = PythonExecution("b", flow, nothing), PythonExecution("c", flow, nothing)
    [b, c] >> PythonExecution("d", flow, nothing)
    a >> [b, c]
    outcomes: dict[str, Any] = {"a": [OSError("no"), None]}
    times = {"a": 10.0, "b": 20.0, "c": 20.0, "d": 5.0}
    vect = simulate(flow, durations=times, outcomes=outcomes, max_workers=1)
    past = past_of(vect.events())
    assert past.runs == 1
    took = {step: list(each) for step, each in past.seconds.items()}
    assert took["a"] == [27]
    assert sorted([*took["b"], *took["c"]]) == [20, 40]  # one of them waited for the worker
    whole = forecast(Now({s: flow.graph.upstreams[s] for s in flow.steps}, {}, {}, TIME), past)
    assert whole == seconds(72, rough=True)  # as long as that run took


def test_the_past_counts_what_was_skipped_and_not_what_failed() -> None:
    flow = Flow("flow", OAutom())
    a = PythonExecution("a", flow, list)
    PythonExecution("b", flow, nothing).depends(a)
    MapExecution("m", flow, str, a)
    runs = [
        simulate(flow, durations={"a": 1.0}, outcomes={"a": [OSError("no")]}),
        simulate(flow, seed=1, durations={"a": 2.0, "m": 4.0}, outcomes={"a": [[1, 2]]}),
    ]
    past = past_of(event for vect in runs for event in vect.events())
    assert past == Past(1, {"a": [2], "b": [0], "m": [4]})


def test_a_retry_on_the_next_day_makes_no_step_long() -> None:
    clock = SimulatedClock()
    with OAutom(executor="inline", clock=clock) as app:
        flow, calls = Flow("flow", app), list[int]()

        def work() -> None:
            calls.append(1)
            clock.advance(9)
            if len(calls) < 2:
                raise OSError

        PythonExecution("a", flow, work)
        vect = app.run(flow)
        clock.advance(86_400)
        vect.retry()
        vect.wait()
        assert past_of(vect.events()) == Past(1, {"a": [9]})


def test_a_step_that_was_given_tells_nothing() -> None:
    with OAutom(executor="inline") as app:
        flow = Flow("flow", app)
        PythonExecution("a", flow, nothing) >> PythonExecution("b", flow, nothing)
        vect = app.run(flow, only="b", given={"a": None})
        assert past_of(vect.events()).seconds.keys() == {"b"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (seconds(300), "~5 min"),
        (seconds(180, 300, 480), "3-8 min"),
        (seconds(500, 600, 700), "~10 min"),
        (seconds(300, 600, 900, rough=True), "~10 min (rough)"),
        (seconds(0), "~1 s"),
        (seconds(4), "~4 s"),
        (seconds(33), "~35 s"),
        (seconds(20, 60, 120), "20 s - 2 min"),
        (seconds(57), "~1 min"),
        (seconds(3600), "~1 h"),
        (seconds(5400, 9000, 12600), "1.5-3.5 h"),
        (seconds(3 * 86400), "~3 d"),
    ],
)
def test_it_is_told_with_how_sure_it_is(given: Forecast, text: str) -> None:
    assert told(given) == text


@given(st.lists(st.floats(0, 1e6), min_size=1).map(sorted), st.floats(0, 1e6))
def test_the_three_are_in_order_and_none_is_negative(took: list[float], ago: float) -> None:
    found = left(Past(len(took), PAST.seconds | {"a": took}), {"a": ago}, a="running")
    assert found is not None
    assert 0 <= found.low <= found.likely + 1e-6
    assert found.likely <= found.high + 1e-6
    assert told(found)
