"""Every use of a value has its own: what one step does to it, no other step and no log sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from oautom import Flow, MapExecution, OAutom, PythonExecution, Skip, StepFailedError
from oautom.events import replay


@pytest.fixture(params=["memory", "durable"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    log = None if request.param == "memory" else tmp_path / "runs.db"
    with OAutom(log=log, executor="inline") as app:
        yield app


def ruin(value: Any) -> None:
    """Change a value as deeply as can be."""
    if isinstance(value, list | dict):
        for part in list(value.values() if isinstance(value, dict) else value):
            ruin(part)
        value.clear()
    elif hasattr(value, "rows"):
        ruin(value.rows)


@dataclass
class Report:
    rows: Any = field(default_factory=list)


TYPED: list[tuple[Any, Any]] = [
    (list[int], [1]),
    (list[list[int]], [[1]]),
    (list, [[1]]),
    (list[Any], [{"a": [1]}]),
    (dict[str, list], {"rows": [1]}),
    (dict[str, Any], {"rows": [[1]]}),
    (dict, {"rows": [1]}),
    (Report, Report([[1]])),
    (Any, [1]),
]


@pytest.mark.parametrize(("annotation", "value"), TYPED, ids=lambda each: str(each)[:30])
def test_in_a_durable_log_each_step_is_given_its_own(
    annotation: Any, value: Any, tmp_path: Path
) -> None:
    def give() -> Any:
        return value

    give.__annotations__["return"] = annotation
    told = repr(value)
    with OAutom(log=tmp_path / "runs.db", executor="inline") as app:
        flow = Flow("f", app)
        first = PythonExecution("first", flow, give)
        spoil = PythonExecution("spoil", flow, ruin, [first])
        last = PythonExecution("last", flow, repr, [first])
        spoil >> last
        vect = app.run(flow)

        assert vect.result("last") == told
        ruin(vect.result("first"))
        assert repr(vect.result("first")) == told
        assert replay(app.log.read())[vect.id].steps["first"].state == "success"


def test_a_step_that_empties_the_list_of_a_map_takes_no_item_from_it(app: OAutom) -> None:
    flow = Flow("f", app)
    items = PythonExecution("items", flow, lambda: [[1], [2], [3], [4]])
    spoil = PythonExecution("spoil", flow, ruin, [items], priority=9)
    mapped = MapExecution("m", flow, lambda item: ruin(item), items, max_parallel=1)
    lengths = MapExecution("n", flow, lambda item: item[0] * 10, items, max_parallel=1)
    spoil >> mapped >> lengths

    vect = app.run(flow)

    assert vect.state == "success"
    assert vect.result("n") == [10, 20, 30, 40]
    assert replay(app.log.read())[vect.id].steps["items"].output == [[1], [2], [3], [4]]


def test_in_memory_an_object_is_handed_on_as_it_is_and_the_log_keeps_its_lists() -> None:
    with OAutom(executor="inline") as app:
        flow = Flow("f", app)
        given = [[1], object()]
        seen: list[Any] = []
        first = PythonExecution("first", flow, lambda: given)
        second = PythonExecution("second", flow, seen.append, [first])
        mapped = MapExecution("m", flow, lambda item: [item], first)
        third = PythonExecution("third", flow, seen.append, [mapped])
        second >> mapped
        vect = app.run(flow)

        assert vect.state == "success"
        assert seen[0] is given
        assert vect.result("first") is given
        assert seen[1][1][0] is given[1]
        ruin(given)
        assert replay(app.log.read())[vect.id].steps["first"].output[0] == [1]
        assert third.name in vect.steps


def test_what_crashes_and_what_does_not_end_alike(tmp_path: Path) -> None:
    """A `Counter` would be one for the next step, and a `dict` for the same step after a crash."""
    with OAutom(log=tmp_path / "runs.db", executor="inline") as app:
        flow = Flow("f", app)
        PythonExecution("count", flow, lambda: Counter("abca"))
        vect = app.run(flow)

        assert vect.state == "failed"
        assert "a Counter that JSON cannot keep as it is" in str(vect.steps["count"].error)
        assert "make it dict(...)" in str(vect.steps["count"].error)


def test_a_map_over_a_step_that_was_skipped_says_so(app: OAutom) -> None:
    def none() -> list[int]:
        raise Skip("there is nothing to do")

    flow = Flow("f", app)
    items = PythonExecution("items", flow, none)
    MapExecution("m", flow, lambda item: item, items, trigger_rule="all_done")

    vect = app.run(flow)

    assert vect.steps["m"].error == (
        "step 'items' was skipped: there is nothing to do; so it has no output, and there is no "
        "list"
    )


def test_a_dependant_names_what_failed_and_does_not_copy_its_error(app: OAutom) -> None:
    def fail() -> None:
        raise ValueError("x" * 10_000)

    flow = Flow("f", app)
    bad = PythonExecution("bad", flow, fail)
    for i in range(50):
        bad >> PythonExecution(f"next {i}", flow, int) >> PythonExecution(f"last {i}", flow, int)

    vect = app.run(flow)

    blocked = [event for event in vect.events() if event.name == "step.blocked"]
    assert len(blocked) == 100
    assert {event.data["error"] for event in blocked} == {"upstream 'bad' failed"}
    with pytest.raises(StepFailedError, match="upstream 'bad' failed: ValueError: xxx") as caught:
        vect.result("last 7")
    assert isinstance(caught.value.__cause__, ValueError)
