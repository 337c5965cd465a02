"""A map whose instances run a Bash command each, with the item in a variable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oautom import Bash, Flow, FlowError, MapExecution, OAutom, OAutomMode, PythonExecution
from oautom.testing import assert_replays, check_history

from .conftest import SECONDS


def run(app: OAutom, items: Any, bash: Bash, **options: Any) -> Any:
    flow = Flow("flow", app)
    source = PythonExecution("items", flow, lambda: items)
    MapExecution("each", flow, bash, source, **options)
    return app.run(flow, vect_id="v")


HOSTILE = ["a b", "$(touch owned)", "`touch owned`", "'; touch owned; '", "*", "-n", "", "é\n\n"]


def test_each_item_is_in_a_variable_and_never_part_of_the_command(
    any_app: OAutom, tmp_path: Path
) -> None:
    command = 'printf "%s" "$ITEM"'
    vect = run(any_app, HOSTILE, Bash(command, output="text", cwd=tmp_path))

    assert vect.result("each") == HOSTILE
    assert list(tmp_path.iterdir()) == []
    check_history(any_app.log.read())
    assert_replays(any_app.log, any_app.flow("flow"))


def test_other_values_are_json_and_a_dictionary_has_its_keys_too(inline: OAutom) -> None:
    items = [7, None, [1, "x"], {"name": "Rome", "n": 2, "a b": 3, "PATH": "/x"}]
    vect = run(inline, items, Bash('echo "$ITEM|$ITEM_name|$ITEM_n|$ITEM_PATH|$(ls -d /)"'))
    assert vect.result("each") == [
        *("7||||/", "null||||/", '[1,"x"]||||/'),
        '{"name":"Rome","n":2,"a b":3,"PATH":"/x"}|Rome|2|/x|/',
    ]


def test_it_runs_as_a_bash_step_does(inline: OAutom, tmp_path: Path) -> None:
    flow = Flow("flow", inline, params={"who": str, "folder": str})
    source = PythonExecution("items", flow, lambda: [0, 1, 99])
    bash = Bash(
        'false | true; echo "$WHO in $PWD" >&2; [ "$ITEM" = 0 ] || exit "$ITEM"; echo "[$ITEM]"',
        env={"WHO": flow.param("who")},
        cwd=flow.param("folder"),
        output="json",
        strict=False,
    )
    each = MapExecution("each", flow, bash, source)
    vect = inline.run(flow, {"who": "Al", "folder": str(tmp_path)})

    states = [vect.steps[f"each[{i}]"].state for i in range(3)]
    assert states == ["success", "failed", "skipped"]
    assert vect.steps["each[0]"].output == [0]
    assert f"Al in {tmp_path}" in vect.steps["each[0]"].log_text
    assert "exited with code 1" in (vect.steps["each[1]"].error or "")
    assert each.options()["strict"] is False


def test_it_ends_with_the_first_failure_in_it(inline: OAutom) -> None:
    vect = run(inline, [1], Bash("false | true; echo on"))
    assert "exited with code 1" in vect.steps["each[0]"].error


def test_a_cancel_ends_its_group(new_app: Any, tmp_path: Path) -> None:
    app = new_app(OAutomMode.background)
    flow = Flow("flow", app, params={"items": list[int]})
    command = 'trap "echo ended > ended$ITEM; exit" TERM; echo > begun$ITEM; sleep 60 & wait'
    MapExecution("each", flow, Bash(command, cwd=tmp_path), flow.param("items"))
    vect = app.start(flow, {"items": [1, 2]})
    for _ in range(SECONDS * 100):
        if len(list(tmp_path.glob("begun*"))) == 2:
            break
        try:
            vect.wait(0.01)
        except TimeoutError:
            continue
    vect.cancel()
    assert vect.wait(SECONDS) == "cancelled"
    assert sorted(each.name for each in tmp_path.glob("ended*")) == ["ended1", "ended2"]


def test_an_item_that_is_too_large_or_has_a_nul_fails_alone(inline: OAutom) -> None:
    vect = run(inline, ["x" * 200_000, "a\0b", {"k": "a\0b"}, "good"], Bash('echo "${#ITEM}"'))
    errors = [vect.steps[f"each[{i}]"].error or "" for i in range(4)]
    assert "write the item to a file in a step" in errors[0]
    assert "env['ITEM'] must be text without NUL" in errors[1]
    assert "env['ITEM_k'] must be text without NUL" in errors[2]
    assert errors[3] == ""


def test_it_is_undone_with_its_item(inline: OAutom, tmp_path: Path) -> None:
    flow = Flow("flow", inline, params={"items": list[str]})
    each = MapExecution(
        "each",
        flow,
        Bash('echo "made $ITEM"', env={"A": "a"}, cwd=tmp_path),
        flow.param("items"),
        compensate='echo "$A $ITEM $OUTPUT" >> undone',
    )
    each >> PythonExecution("bad", flow, lambda: 1 // 0)
    assert inline.run(flow, {"items": ["x", "y"]}).state == "failed"
    assert (tmp_path / "undone").read_text() == "a y made y\na x made x\n"


@pytest.mark.parametrize(
    ("bash", "kwargs", "told"),
    [
        (Bash("true", env={"ITEM": "x"}), None, "env has 'ITEM', which is for the item"),
        (Bash("true", env={"ITEM_a": "x"}), None, "env has 'ITEM_a', which is for the item"),
        (Bash("true"), {"a": 1}, "a command takes no kwargs; use Bash(..., env={...})"),
        (Bash(" "), None, "command must be text that Bash can run, not ' '"),
        (Bash("true", output="lines"), None, "output must be one of"),  # type: ignore[arg-type]
        (Bash("true", env={"a b": "x"}), None, "env has 'a b', which cannot name a variable"),
        (Bash("true", grace_period=-1), None, "grace_period must be seconds, from 0, not -1"),
    ],
)
def test_what_cannot_run_is_refused(inline: OAutom, bash: Bash, kwargs: Any, told: str) -> None:
    flow = Flow("flow", inline, params={"items": list[str]})
    with pytest.raises(FlowError) as error:
        MapExecution("each", flow, bash, flow.param("items"), kwargs)
    assert told in str(error.value)
    assert "step 'each' of flow 'flow'" in str(error.value)


def test_it_runs_where_the_executor_is(new_app: Any) -> None:
    app = new_app(executor="processes", max_workers=1)
    assert run(app, ["a"], Bash('echo "$ITEM"', place="worker")).result("each") == ["a"]
