"""Outputs that are forwarded: whole or in part, by reference, to functions and to commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import msgspec
import pytest

from oautom import (
    BashExecution,
    Context,
    CrossFlowDependencyError,
    Execution,
    Flow,
    FlowError,
    FlowFrozenError,
    OAutom,
    PythonExecution,
    Skip,
    StepFailedError,
    TriggerRule,
)

from .conftest import NewApp

DAY = date(2026, 11, 24)


@dataclass
class Report:
    day: date
    rows: list[int]


class Pair(NamedTuple):
    name: str
    count: int


class Record(msgspec.Struct):
    report: Report


class Movie(TypedDict):
    title: str
    year: int


def tell(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def test_references_are_values_when_the_step_runs(any_app: OAutom) -> None:
    flow = Flow("f", any_app, params={"day": date})
    rows = PythonExecution("rows", flow, lambda: {"k": [1, {"deep": "x"}]})
    pair = PythonExecution("pair", flow, lambda: Pair("n", 3))
    took = PythonExecution(
        "took",
        flow,
        tell,
        [
            rows.output["k"][0],
            [rows.output["k"][1]["deep"], (pair, 5)],
            Pair("own", pair.output[1]),
        ],
        {"whole": rows, "nested": {"day": flow.param("day")}, "name": pair.output["name"]},
    )

    assert flow.graph.upstreams["took"] == ("rows", "pair")
    assert any_app.run(flow, {"day": DAY}).result(took) == (
        (1, ["x", (Pair("n", 3), 5)], Pair("own", 3)),
        {"whole": {"k": [1, {"deep": "x"}]}, "nested": {"day": DAY}, "name": "n"},
    )


def test_a_part_is_an_item_or_a_field(inline: OAutom) -> None:
    flow = Flow("f", inline)
    made = PythonExecution("made", flow, lambda: [Record(Report(DAY, [4, 5])), "text"])
    parts = [made.output[0]["report"]["day"], made.output[0]["report"]["rows"][-1]]
    took = PythonExecution("took", flow, tell, [*parts, made.output[1][0]])

    assert inline.run(flow).result(took)[0] == (DAY, 5, "t")


def test_in_memory_the_very_object_is_forwarded(inline: OAutom) -> None:
    flow = Flow("f", inline)
    thing = object()
    made = PythonExecution("made", flow, lambda: [thing])
    took = PythonExecution(
        "took", flow, lambda one, all_of_it: (one, all_of_it), [made.output[0], made]
    )
    given = PythonExecution("given", flow, lambda one, rest: rest, [made, untouched := [[1], {2}]])

    vect = inline.run(flow)
    assert vect.result(took)[0] is thing
    assert vect.result(took)[1] is vect.result(made)
    assert vect.result(given) is untouched


NOT_THERE = {
    "an index": ([1, 2], ["rows", 2], "made.output['rows'] has no part [2], it is a list: [1, 2]"),
    "a key": ([1], ["cols"], "made.output has no part ['cols'], it is a dict: {'rows': [1]}"),
    "a key of a list": ([1], ["rows", "k"], "made.output['rows'] has no part ['k'], it is a list"),
    "a part of a number": (3, ["rows", 0], "made.output['rows'] has no part [0], it is a int: 3"),
    "a part of nothing": (None, ["rows", 0], "has no part [0], it is a NoneType: None"),
    "a field": (
        Report(DAY, []),
        ["rows", "size"],
        "made.output['rows'] has no part ['size'], it is a Report: Report(day=",
    ),
}


@pytest.mark.parametrize(("rows", "path", "told"), NOT_THERE.values(), ids=NOT_THERE)
def test_a_part_that_is_not_there_fails_the_step_in_one_line(
    inline: OAutom, rows: Any, path: list[Any], told: str
) -> None:
    flow = Flow("f", inline)
    reference: Any = PythonExecution("made", flow, lambda: {"rows": rows}).output
    for key in path:
        reference = reference[key]
    took = PythonExecution("took", flow, tell, [reference])

    vect = inline.run(flow)
    error = vect.steps["took"].error
    assert error is not None
    assert error.startswith(f"step 'took' takes {reference!r}, but ")
    assert told in error
    assert "\n" not in error
    with pytest.raises(StepFailedError, match=" takes "):
        vect.result(took)
    assert vect.events()[-2].data.keys() == {"error"}


@pytest.mark.parametrize("end", [ValueError("no"), Skip("not today")], ids=["failed", "skipped"])
def test_an_upstream_without_output_fails_the_step_that_is_given_it(
    inline: OAutom, end: BaseException
) -> None:
    def stop() -> None:
        raise end

    flow = Flow("f", inline)
    made = PythonExecution("made", flow, stop)
    PythonExecution("took", flow, tell, [made], trigger_rule=TriggerRule.ALL_DONE)
    PythonExecution("hasty", flow, tell, [made], trigger_rule=TriggerRule.ALWAYS)
    BashExecution("said", flow, "true", {"MADE": made}, trigger_rule=TriggerRule.ALL_DONE)

    vect = inline.run(flow)
    for name in ("took", "hasty", "said"):
        assert vect.steps[name].error == (
            f"step '{name}' takes made.output, but step 'made' has no output, it has not succeeded"
        )


# Declared wrongly


def test_a_reference_to_another_flow_is_refused_and_nothing_declared(inline: OAutom) -> None:
    flow, other = Flow("f", inline), Flow("other", inline, params={"day": date})
    there = PythonExecution("there", other, tell)

    for given in (there, there.output, [there.output["k"]], {"k": (there,)}):
        with pytest.raises(CrossFlowDependencyError, match=r"step 'a' of flow 'f'.*step 'there'"):
            PythonExecution("a", flow, tell, [given])
        with pytest.raises(CrossFlowDependencyError):
            PythonExecution("a", flow, tell, kwargs={"given": given})
    with pytest.raises(CrossFlowDependencyError):
        BashExecution("a", flow, "true", {"THERE": there})
    with pytest.raises(FlowError, match=r"param\('day'\) is a parameter of flow 'other'; declare"):
        PythonExecution("a", flow, tell, [other.param("day")])
    assert list(flow.steps) == []


def test_a_frozen_flow_takes_no_more_references(inline: OAutom) -> None:
    flow = Flow("f", inline)
    made = PythonExecution("made", flow, tell)
    inline.run(flow)

    with pytest.raises(FlowFrozenError):
        PythonExecution("took", flow, tell, [made])


def test_what_cannot_hold_references_is_refused(inline: OAutom) -> None:
    flow = Flow("f", inline)
    made = PythonExecution("made", flow, tell)
    holds_itself: list[Any] = [made]
    holds_itself.append(holds_itself)

    with pytest.raises(FlowError, match="a list that holds itself cannot hold references"):
        PythonExecution("a", flow, tell, [holds_itself])
    deep: list[Any] = [made]
    for _ in range(300):
        deep = [deep]
    with pytest.raises(FlowError, match="its arguments have more than 200 levels; make it"):
        PythonExecution("a", flow, tell, [deep])
    for given in ({made: 1}, {made.output: made}, {made.output}, frozenset([made]), [[{made}]]):
        with pytest.raises(FlowError, match="cannot be in a set, or the key of a dictionary"):
            PythonExecution("a", flow, tell, [given])
    with pytest.raises(FlowError, match=r"made.output has no part \[1.5\]; a key must be text or"):
        made.output[1.5]  # type: ignore[index]
    for key in (True, None, slice(1)):
        with pytest.raises(FlowError, match="has no part"):
            made.output[key]  # type: ignore[index]


def test_a_list_that_holds_itself_is_given_as_it_is_where_there_are_no_references(
    inline: OAutom,
) -> None:
    holds_itself: list[Any] = []
    holds_itself.append(holds_itself)
    flow = Flow("f", inline)
    PythonExecution("a", flow, lambda given: given is holds_itself, [holds_itself])

    assert inline.run(flow).result("a") is True


SILENT: dict[str, Callable[[Any], Any]] = {
    "str": str,
    "format": lambda ref: f"{ref}",
    "percent": lambda ref: "%s" % ref,  # noqa: UP031 - the old way
    "method": "{}".format,
    "plus": lambda ref: "echo " + ref,
    "plus behind": lambda ref: ref + "!",
    "bool": bool,
    "list": list,
    "in": lambda ref: 3 in ref,
    "for": lambda ref: [each for each in ref],  # noqa: C416 - a loop
    "unpacked": lambda ref: (lambda a, b: a)(*ref),
}


@pytest.mark.parametrize("use", SILENT.values(), ids=SILENT)
def test_a_reference_is_no_value(inline: OAutom, use: Callable[[Any], Any]) -> None:
    flow = Flow("f", inline, params={"day": date})
    made = PythonExecution("made", flow, tell)

    for reference in (made.output, made.output["k"][0], flow.param("day")):
        with pytest.raises(FlowError, match="of flow 'f' has no value before its step runs, so it"):
            use(reference)
    assert repr(made.output["k"][0]) == "made.output['k'][0]"
    assert repr(flow.param("day")[0]) == "param('day')[0]"


# Commands


def test_a_command_has_values_in_its_environment(any_app: OAutom) -> None:
    flow = Flow("f", any_app, params={"day": date, "paths": list[Path]})
    made = PythonExecution(
        "made", flow, lambda: {"text": "it's; $(exit 3) `id`\n ü", "list": [1, "a"], "no": None}
    )
    number = PythonExecution("number", flow, lambda: 42)
    env = {
        "TEXT": made.output["text"],
        "LIST": made.output["list"],
        "NO": made.output["no"],
        "NUMBER": number,
        "TRUE": PythonExecution("true", flow, lambda: True),
        "RATE": PythonExecution("rate", flow, lambda: 1.5),
        "DAY": flow.param("day"),
        "PATHS": flow.param("paths"),
        "FIRST": flow.param("paths")[0],
        "PLAIN": "plain",
        "REPORT": PythonExecution("report", flow, lambda: Report(DAY, [1])),
    }
    names = " ".join(env)
    command = f'for name in {names}; do printf "%s\\0" "${{!name}}"; done'
    said = BashExecution("said", flow, command, env, output="text")

    text = any_app.run(flow, {"day": DAY, "paths": '["/a", "b"]'}).result(said)
    found = dict(zip(env, text.split("\0"), strict=False))
    assert found == {
        "TEXT": "it's; $(exit 3) `id`\n ü",
        "LIST": '[1,"a"]',
        "NO": "null",
        "NUMBER": "42",
        "TRUE": "true",
        "RATE": "1.5",
        "DAY": "2026-11-24",
        "PATHS": '["/a","b"]',
        "FIRST": "/a",
        "PLAIN": "plain",
        "REPORT": '{"day":"2026-11-24","rows":[1]}',
    }
    assert set(flow.graph.upstreams["said"]) == {"made", "number", "true", "rate", "report"}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"\xff", None),
        ("a\0b", r"env['MADE'] must be text without NUL, not 'a\x00b'"),
        ("\ud800", "env['MADE'] cannot be written as text: the value is a str that JSON cannot"),
        (object(), "env['MADE'] cannot be written as text: the value is a object that JSON"),
        ([1, {2, object}], "env['MADE'] cannot be written as text: its part [1] is a set that"),
        (float("nan"), None),
        ("x" * 3_000_000, "its env is larger than the system allows; write the value"),
    ],
    ids=["bytes", "NUL", "half", "object", "part", "nan", "large"],
)
def test_a_value_that_cannot_be_in_an_environment_fails_the_step(
    inline: OAutom, value: Any, told: str | None
) -> None:
    flow = Flow("f", inline)
    made = PythonExecution("made", flow, lambda: value)
    BashExecution("said", flow, 'echo "$MADE"', {"MADE": made})

    vect = inline.run(flow)
    if told is None:
        assert vect.state == "success"
    else:
        assert vect.steps["said"].error is not None
        assert vect.steps["said"].error.startswith(told)


def test_a_step_or_its_output_as_a_command_is_refused(inline: OAutom) -> None:
    flow = Flow("f", inline)
    made = PythonExecution("made", flow, tell)

    for command in (made, made.output, made.output["k"], f"echo {made}", f"echo {made!r} x"):
        with pytest.raises(FlowError, match=r"step 'a' of flow 'f': .* never part .*; use env="):
            BashExecution("a", flow, command)  # type: ignore[arg-type]
    assert BashExecution("a", flow, "cat <file 'x'> y").command  # it only looks a little like one
    assert BashExecution("b", flow, "cat <PythonExecution 'other'>").command


# What kinds of steps of one's own can do


class Shout(Execution):
    def __init__(self, name: str, flow: Flow, word: Any) -> None:
        super().__init__(name, flow)
        self.word = word

    def run(self, context: Context) -> str:
        return f"{self.word.resolve(context.inputs, context.params)}!"


def test_a_step_of_ones_own_forwards_its_output_and_is_typed_by_run(inline: OAutom) -> None:
    flow = Flow("f", inline)
    word = PythonExecution("word", flow, lambda: "hello")
    shout = Shout("shout", flow, word.output)
    shout.depends(word)
    took = PythonExecution("took", flow, len, [shout])

    assert shout.output_type is str
    assert inline.run(flow).result(took) == 6


# Types that do not fit


def takes_int(number: int) -> int:
    return number


def takes_str(text: str) -> str:
    return text


def takes_many(*numbers: int, **named: str) -> None:
    """Take anything."""


def takes_rows(rows: list[int], context: Context, more: dict[str, int] | None = None) -> Movie:
    return {"title": "x", "year": 1}


def reports() -> Report:
    return Report(DAY, [1])


def untyped(a, b=None):
    return a


FITTING: dict[str, Callable[[Flow], Any]] = {
    "int": lambda f: step(f, takes_int, step(f, takes_int, 3)),
    "a part": lambda f: step(f, takes_rows, step(f, reports).output["rows"]),
    "an item of a part": lambda f: step(f, takes_int, step(f, reports).output["rows"][0]),
    "a field of a TypedDict": lambda f: step(f, takes_str, step(f, takes_rows, []).output["title"]),
    "in a list": lambda f: step(f, takes_rows, [step(f, takes_int, 3), 4]),
    "in a dictionary": lambda f: step(f, takes_rows, [], more={"a": step(f, takes_int, 1)}),
    "many": lambda f: step(f, takes_many, step(f, takes_int, 3), k=step(f, takes_str, "")),
    "untyped": lambda f: step(f, takes_int, step(f, untyped, step(f, takes_str, ""))),
    "a parameter": lambda f: step(f, takes_int, f.param("number")),
    "text of a command": lambda f: step(f, takes_str, BashExecution("bash", f, "true")),
    "JSON of a command": lambda f: step(f, takes_int, BashExecution("bash", f, "1", output="json")),
    "env": lambda f: BashExecution("bash", f, "true", {"X": step(f, takes_int, 1)}),
    "a built-in": lambda f: step(f, print, step(f, takes_int, 3)),
}

WRONG: dict[str, tuple[Callable[[Flow], Any], str]] = {
    "int for str": (
        lambda f: step(f, takes_str, step(f, takes_int, 3)),
        "step 's2' of flow 'f' takes text: str, but is given s1.output of step 's1', which is int;",
    ),
    "a part": (
        lambda f: step(f, takes_str, step(f, reports).output["rows"]),
        "takes text: str, but is given s1.output['rows'] of step 's1', which is list[int];",
    ),
    "in a list": (
        lambda f: step(f, takes_rows, [4, step(f, takes_str, "")]),
        "takes rows[1]: int, but is given s1.output of step 's1', which is str;",
    ),
    "in a dictionary": (
        lambda f: step(f, takes_rows, [], more={"a": step(f, takes_str, "")}),
        "takes more['a']: int, but is given s1.output of step 's1', which is str;",
    ),
    "many": (
        lambda f: step(f, takes_many, 1, step(f, takes_str, "")),
        "takes numbers[1]: int, but is given s1.output of step 's1', which is str;",
    ),
    "many named": (
        lambda f: step(f, takes_many, k=step(f, takes_int, 1)),
        "takes named['k']: str, but is given s1.output of step 's1', which is int;",
    ),
    "a field that is not there": (
        lambda f: step(f, untyped, step(f, reports).output["cols"]),
        "is given s1.output['cols'], but s1.output is Report, which has no part ['cols']",
    ),
    "a part of a number": (
        lambda f: step(f, untyped, step(f, reports).output["rows"][0][1]),
        "s1.output['rows'][0] is int, which has no part [1]",
    ),
    "a parameter": (
        lambda f: step(f, takes_str, f.param("number")),
        "takes text: str, but is given param('number'), which is int;",
    ),
    "a part of a parameter in env": (
        lambda f: BashExecution("s1", f, "true", {"X": f.param("number")["k"]}),
        "is given param('number')['k'], but param('number') is int, which has no part ['k']",
    ),
    "text of a command": (
        lambda f: step(f, takes_int, BashExecution("bash", f, "echo 3")),
        "takes number: int, but is given bash.output of step 'bash', which is str | None;",
    ),
    "nothing": (
        lambda f: step(f, takes_int, step(f, takes_many)),
        "takes number: int, but is given s1.output of step 's1', which is None;",
    ),
}


def step(flow: Flow, function: Any, *args: Any, **kwargs: Any) -> PythonExecution:
    return PythonExecution(f"s{len(flow.steps) + 1}", flow, function, args, kwargs)


@pytest.mark.parametrize("declare", FITTING.values(), ids=FITTING)
def test_what_may_fit_is_let_through(inline: OAutom, declare: Callable[[Flow], Any]) -> None:
    flow = Flow("f", inline, params={"number": int})
    declare(flow)
    flow.validate()


@pytest.mark.parametrize(("declare", "told"), WRONG.values(), ids=WRONG)
def test_what_surely_does_not_fit_is_refused_before_the_run(
    inline: OAutom, declare: Callable[[Flow], Any], told: str
) -> None:
    flow = Flow("f", inline, params={"number": int})
    declare(flow)

    for refuse in (flow.validate, lambda: inline.run(flow, {"number": 3})):
        with pytest.raises(FlowError) as refused:
            refuse()
        assert told in str(refused.value)
        assert refused.value.flow == "f"
        assert refused.value.step in flow.steps
    assert inline.log.last_seq == 0


# With a durable log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def make_report() -> Report:
    return Report(DAY, [1, 2])


def check_report(report: Report, rows: list[int], context: Context) -> dict[date, tuple[int, ...]]:
    assert type(report) is Report
    assert type(context.inputs["made"]) is Report
    return {report.day: tuple(rows)}


def declare_reports(app: OAutom) -> Flow:
    flow = Flow("f", app, max_active_vects=9)
    made = PythonExecution("made", flow, make_report)
    PythonExecution("checked", flow, check_report, [made, made.output["rows"]])
    return flow


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_outputs_come_back_as_their_types_in_this_program_and_in_the_next(
    new_app: NewApp, path: Path, executor: str
) -> None:
    with new_app(log=path, executor=executor) as app:
        vect = app.run(declare_reports(app), vect_id="v")
        assert vect.state == "success", [step.error for step in vect.steps.values()]
        results = [(vect.result("made"), vect.result("checked"))]
        (told,) = [e.data for e in vect.events() if (e.name, e.step) == ("step.succeeded", "made")]

    app = new_app(log=path, executor=executor)
    declare_reports(app)
    vect = app.vect("v")
    results.append((vect.steps["made"].output, vect.steps["checked"].output))

    assert results == [(Report(DAY, [1, 2]), {DAY: (1, 2)})] * 2
    assert told == {"output": {"day": "2026-11-24", "rows": [1, 2]}}
    assert json.dumps(app.status("f"))


class Makes(Execution):
    poll_interval = 0.0

    async def run(self, context: Context) -> Report:
        return Report(DAY, [1])

    def check(self, context: Context) -> bool:
        context.output.rows.append(len(context.output.rows))
        return len(context.output.rows) > 2


def test_the_output_of_a_step_of_ones_own_is_typed_by_its_run(new_app: NewApp, path: Path) -> None:
    app = new_app(log=path, executor="inline")
    flow = Flow("f", app)
    made = Makes("made", flow)
    took = PythonExecution("took", flow, lambda report: type(report).__name__, [made])

    vect = app.run(flow)
    assert vect.result(made) == Report(DAY, [1, 1, 2])
    assert vect.result(took) == "Report"
    assert vect.events()[3].data == {"output": {"day": "2026-11-24", "rows": [1, 1, 2]}}


def bad_rows() -> list[date]:
    return [DAY, "someday"]  # type: ignore[list-item]


def nothing_though_a_number() -> int:
    return None  # type: ignore[return-value]


def no_annotation():
    return (1, 2)


def too_much() -> Movie:
    return {"title": "x", "year": 1, "more": 2}  # type: ignore[typeddict-unknown-key]


KEPT_BADLY: dict[str, tuple[Callable[[], Any], str]] = {
    "another type": (
        bad_rows,
        "the value, [datetime.date(2026, 11, 24), 'someday'], is not of its type list[datetime.dat",
    ),
    "None": (nothing_though_a_number, "the value, None, is not of its type int: Expected `int`, "),
    "without annotation": (no_annotation, "the value is a tuple that JSON cannot keep as it is"),
    "more than the type": (too_much, "the value, {'title': 'x', 'year': 1, 'more': 2}, would come"),
}


@pytest.mark.parametrize(("function", "told"), KEPT_BADLY.values(), ids=KEPT_BADLY)
def test_an_output_that_would_not_come_back_fails_its_step(
    new_app: NewApp, path: Path, function: Callable[[], Any], told: str
) -> None:
    app = new_app(log=path, executor="inline")
    flow = Flow("f", app)
    PythonExecution("a", flow, function)

    vect = app.run(flow)
    error = vect.steps["a"].error
    assert error is not None
    assert error.startswith(f"its output cannot be kept: {told}")
    assert vect.steps["a"].output is None
    in_memory = new_app(executor="inline")
    flow = Flow("f", in_memory)
    PythonExecution("a", flow, function)
    assert in_memory.run(flow).result("a") == function()


def test_an_old_output_that_no_longer_fits_is_told_when_asked_for(
    new_app: NewApp, path: Path
) -> None:
    def number() -> int:
        return 3

    def day() -> date:
        return DAY

    with new_app(log=path, executor="inline") as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, number)
        app.run(flow, vect_id="v")

    app = new_app(log=path, executor="inline")
    flow = Flow("f", app)
    a = PythonExecution("a", flow, day)
    a.output_type = (
        date  # this module keeps its annotations as texts, and `date` is there: so is this
    )
    vect = app.vect("v")

    with pytest.raises(
        FlowError, match="output of step 'a' of flow 'f' in vect 'v' is 3, which does"
    ):
        vect.result("a")
    assert vect.events()[3].data == {"output": 3}
    assert vect.status()["executions"][0]["state"] == "success"


def test_steps_that_are_gone_from_the_flow_show_what_is_in_the_log(
    new_app: NewApp, path: Path
) -> None:
    with new_app(log=path, executor="inline") as app:
        app.run(declare_reports(app), vect_id="v")

    app = new_app(log=path, executor="inline")
    Flow("f", app)
    assert app.vect("v").result("made") == {"day": "2026-11-24", "rows": [1, 2]}
