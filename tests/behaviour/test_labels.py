"""Labels: names of the instances of a map for people, wherever these are shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from oautom import Client, Flow, FlowError, MapExecution, OAutom, PythonExecution
from oautom.cli.live import draw
from oautom.cli.progress import Progress
from oautom.cli.seeing import shown
from oautom.steps.labels import LABEL_MAX
from oautom.testing import assert_replays, check_history


def run(app: OAutom, items: Any, label: Any, function: Any = None) -> Any:
    flow = Flow("flow", app)
    source = PythonExecution("items", flow, lambda: items)
    MapExecution("each", flow, function or (lambda item: None), source, label=label)
    return app.run(flow, vect_id="v")


def labels(vect: Any) -> list[str | None]:
    return [step.label for name, step in vect.steps.items() if name.startswith("each[")]


@dataclass
class City:
    name: str
    people: int = 3


@pytest.mark.parametrize(
    ("label", "items", "told"),
    [
        ("{}", ["a", 7, None, 1.5], ["a", "7", "null", "1.5"]),
        ("item {0}!", [[1, 2]], ["item [1,2]!"]),
        ("{name} of {country}", [{"name": "Rome", "country": "IT"}], ["Rome of IT"]),
        ("{{{name}}}", [{"name": {"a": 1}}], ['{{"a":1}}']),
        ("all", [1, 2], ["all", "all"]),
        (str.upper, ["rome", "bern"], ["ROME", "BERN"]),
        (lambda item: item["name"], [{"name": "Rome"}], ["Rome"]),
    ],
)
def test_a_label_is_made_of_the_item(any_app: OAutom, label: Any, items: Any, told: Any) -> None:
    vect = run(any_app, items, label)

    assert vect.state == "success"
    assert labels(vect) == told
    assert vect.status()["executions"][-1]["label"] == told[-1]
    assert vect.explain("each[0]").startswith(f"`each[0]` ({told[0]}) succeeded")
    check_history(any_app.log.read())
    assert_replays(any_app.log, any_app.flow("flow"))


@pytest.mark.parametrize("is_durable", [False, True])
@pytest.mark.parametrize("label", ["{name}", lambda city: city.name])
def test_an_item_has_its_type(new_app: Any, tmp_path: Path, label: Any, is_durable: bool) -> None:
    def cities() -> list[City]:
        return [City("Rome"), City("Bern")]

    app = new_app(executor="inline", log=tmp_path / "runs.db" if is_durable else None)
    flow = Flow("flow", app)
    MapExecution("each", flow, str, PythonExecution("items", flow, cities), label=label)
    assert labels(app.run(flow)) == ["Rome", "Bern"]


class Odd(str):
    """A text that has another idea of itself."""

    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __len__ = __format__ = __str__  # type: ignore[assignment]


def raises(item: Any) -> str:
    raise ValueError("no label")


def exits(item: Any) -> str:
    raise SystemExit(3)


def recurses(item: Any) -> str:
    return recurses(item)


@pytest.mark.parametrize(
    ("label", "told"),
    [
        (raises, "the label of item 0 could not be made: ValueError: no label"),
        (exits, "the label of item 0 could not be made: SystemExit: 3"),
        (recurses, "the label of item 0 could not be made: RecursionError"),
        (lambda item: 3, "it must be a text that is not blank, not 3"),
        (lambda item: " \n", "it must be a text that is not blank"),
        (lambda item: b"x", "it must be a text that is not blank, not b'x'"),
        ("{name}", "the label of item 0 could not be made: KeyError: 'name'"),
    ],
)
def test_a_label_that_fails_leaves_the_number_with_a_note(
    any_app: OAutom, label: Any, told: str
) -> None:
    vect = run(any_app, [1, 2], label)
    assert (vect.state, labels(vect)) == ("success", [None, None])
    (start,) = [e for e in vect.events() if (e.step, e.name) == ("each", "step.started")]
    assert told in start.data["unlabelled"]
    check_history(any_app.log.read())


def test_only_the_items_whose_label_fails_have_none(inline: OAutom) -> None:
    vect = run(inline, [{"name": "a"}, {}, {"name": "c"}], "{name}")
    assert labels(vect) == ["a", None, "c"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("x" * 10**6, "x" * LABEL_MAX + "..."),
        ("a\x00\x1b[31mb\nc\u202e", "a [31mb c"),
        ("\ud800 half", "half"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        (Odd("odd"), "odd"),
    ],
    ids=["long", "controls", "half", "markup", "odd"],
)
def test_a_hostile_label_is_one_short_line(
    new_app: Any, tmp_path: Path, given: str, kept: str
) -> None:
    app = new_app(executor="inline", log=tmp_path / "runs.db")
    assert labels(run(app, [1], lambda item: given)) == [kept]


def test_a_label_is_in_errors_and_views_also_of_another_process(
    new_app: Any, tmp_path: Path
) -> None:
    def half(n: int) -> int:
        if n == 3:
            raise ValueError("odd")
        return n // 2

    path = tmp_path / "runs.db"
    app = new_app(executor="inline", log=path)
    vect = run(app, [2, 3], "number {}", half)
    error = "1 of its 2 items failed, first each[1] (number 3): ValueError: odd"
    assert vect.steps["each"].error == error
    app.close()
    client = Client(path)  # it has no flow
    view = client.vect("v")
    assert [view.steps[f"each[{i}]"].label for i in range(2)] == ["number 2", "number 3"]
    assert "each[1] (number 3): ValueError: odd" in "\n".join(shown(view))
    assert view.explain("each[1]").startswith("`each[1]` (number 3) failed")
    progress = Progress()
    for event in view.events()[:-2]:
        progress.take(event)
    progress.count()
    drawn = "\n".join(
        line.plain for line in draw("flow v", progress, view.end_date or view.created, 100, 20)
    )
    assert "failed   each[1] (number 3)  ValueError: odd" in drawn
    assert "1 failed, 1 success" in drawn


@pytest.mark.parametrize(
    ("label", "told"),
    [
        (3, "label must be a function of an item or a text, not 3"),
        ("{", "label '{' cannot be filled in"),
        ("{name!r}", "only a name can be in braces, without ! and :"),
        ("{name:>{width}}", "only a name can be in braces, without ! and :"),
    ],
)
def test_a_label_that_is_none_is_refused(inline: OAutom, label: Any, told: str) -> None:
    flow = Flow("flow", inline, params={"items": list[int]})
    with pytest.raises(FlowError) as error:
        MapExecution("each", flow, str, flow.param("items"), label=label)
    assert told in str(error.value)
    assert "step 'each' of flow 'flow'" in str(error.value)


def test_an_async_label_is_refused(inline: OAutom) -> None:
    async def label(item: Any) -> str:
        return "x"

    flow = Flow("flow", inline, params={"items": list[int]})
    with pytest.raises(FlowError, match="label must be a plain function, not an async one"):
        MapExecution("each", flow, str, flow.param("items"), label=label)  # type: ignore[arg-type]


def test_a_retry_of_the_map_makes_its_labels_anew(inline: OAutom) -> None:
    bad = [1]

    def work(n: int) -> None:
        if n in bad:
            raise ValueError

    counts: list[int] = []

    def label(item: int) -> str:
        counts.append(item)
        return f"{item} for the {counts.count(item)}. time"

    vect = run(inline, [0, 1], label, work)
    assert labels(vect)[1] == "1 for the 1. time"
    bad.clear()
    vect.retry()
    vect.wait()
    assert labels(vect)[1] == "1 for the 2. time"
