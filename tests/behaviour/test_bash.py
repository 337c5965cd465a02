"""`BashExecution`: what it is told, what it gives, and how it tells a failure."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from oautom import BashExecution, Flow, FlowError, OAutom, PythonExecution, StepFailedError

from .conftest import runs_well

NASTY = [
    "plain",
    "",
    " leading and trailing ",
    "two\nlines\n",
    "tab\tand\rreturn",
    "\"double\" and 'single'",
    "$HOME `id` $(id) ${PATH} !! \\n",
    "; rm -rf /tmp/oautom-never & | > < * ? [a] {a,b} ~",
    "äöü€𝄞 e\u0301 \u2028 \ufeff",
    "\x01\x1b[31m\x7f",
    "-n",
    "%s%d",
    "x" * 50_000,
]


def bash(app: OAutom, command: str, name: str = "a", **settings: Any) -> Any:
    """Run one command and return its Vect."""
    flow = Flow(f"flow {len(app.flows())}", app)
    BashExecution(name, flow, command, **settings)
    return app.run(flow)


def result(app: OAutom, command: str, **settings: Any) -> Any:
    vect = bash(app, command, **settings)
    assert vect.state == "success", vect.steps["a"].error
    return vect.result("a")


def error(app: OAutom, command: str, **settings: Any) -> str:
    vect = bash(app, command, **settings)
    assert vect.state == "failed"
    return vect.steps["a"].error


# What it gives


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("echo one", "one"),
        ("echo one; echo two", "two"),
        ("echo one; echo; echo '  '", "one"),
        ("printf 'one\\ntwo'", "two"),
        ("printf '  spaced  \\n'", "  spaced  "),
        ("printf 'one\\r\\n'", "one"),
        ("true", None),
        ("echo; echo ' '", None),
        ("echo one; echo two >&2", "one"),
        ("printf '\\xff\\n'", "\ufffd"),
        ("echo 42", "42"),
    ],
)
def test_the_output_is_the_last_line_that_is_not_blank(
    inline: OAutom, command: str, output: str | None
) -> None:
    assert result(inline, command) == output


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c"], ids=ascii)
def test_a_line_ends_where_bash_ends_it_and_nowhere_else(inline: OAutom, character: str) -> None:
    line = f'{{"text": "one{character}two"}}'  # as many programs write a line of JSON

    assert result(inline, 'printf "%s\\n" "$LINE"', env={"LINE": line}) == line


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("echo one; echo two", "one\ntwo\n"),
        ("printf ' one '", " one "),
        ("true", ""),
        ("echo one; echo two >&2", "one\n"),
        ("printf 'a\\r\\nb'", "a\r\nb"),
    ],
)
def test_the_output_can_be_the_whole_text(inline: OAutom, command: str, output: str) -> None:
    assert result(inline, command, output="text") == output


@pytest.mark.parametrize(
    "value", [None, True, 0, -1.5, "ä\u2028", [], {}, {"rows": [1, {"a": None}]}], ids=ascii
)
def test_the_output_can_be_json(inline: OAutom, value: Any) -> None:
    given = json.dumps(value, indent=2, ensure_ascii=False)

    assert result(inline, 'printf %s "$J"', output="json", env={"J": given}) == value


def test_what_is_no_json_fails_and_says_where(inline: OAutom) -> None:
    told = error(inline, "echo '{\"a\": }'", output="json")

    assert told == (
        "the command's output is not JSON: JSON is malformed: invalid character (byte 6)"
    )
    assert error(inline, "true", output="json").startswith("the command's output is not JSON: ")


def test_json_that_was_too_long_says_so(inline: OAutom) -> None:
    told = error(inline, "printf '[%s]' 12345", output="json", log_limit_bytes=4)

    assert told.startswith("the command's output is longer than log_limit_bytes, which is 4")


def test_the_log_is_what_it_wrote_to_both_streams(inline: OAutom) -> None:
    vect = bash(inline, "echo out; echo err >&2; exit 1")

    assert sorted(vect.steps["a"].log_text.splitlines()) == ["err", "out"]


def test_the_output_goes_on_to_the_next_step(inline: OAutom) -> None:
    flow = Flow("f", inline)
    first = BashExecution("first", flow, "echo 42")
    first >> PythonExecution("second", flow, lambda context: int(context.inputs["first"]) + 1)

    assert inline.run(flow).result("second") == 43


def test_standard_input_is_empty(inline: OAutom) -> None:
    assert result(inline, "cat; echo end") == "end"


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_a_script_of_many_lines_is_one_command(new_app: Any, executor: str) -> None:
    script = """
        set -euo pipefail
        total=0
        for number in 1 2 3; do
            total=$((total + number))
        done
        if [[ $total == 6 ]]; then echo "total $total"; fi
    """

    assert result(new_app(executor=executor), script) == "total 6"


# What it is told


@pytest.mark.parametrize("value", NASTY, ids=lambda value: ascii(value)[:30])
def test_a_variable_arrives_byte_for_byte(inline: OAutom, value: str) -> None:
    assert result(inline, 'printf %s "$VALUE"', env={"VALUE": value}, output="text") == value


def test_the_environment_is_that_of_the_program_and_the_given_one(
    inline: OAutom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OAUTOM_TEST_INHERITED", "from the program")
    monkeypatch.setenv("OAUTOM_TEST_REPLACED", "from the program")
    command = 'echo "$OAUTOM_TEST_INHERITED, $OAUTOM_TEST_REPLACED"'
    given = {"OAUTOM_TEST_REPLACED": "from the step"}

    assert result(inline, command, env=given) == "from the program, from the step"
    assert os.environ["OAUTOM_TEST_REPLACED"] == "from the program"


NAMES = [n for n in NASTY if n.strip() and len(n) < 1000 and min(n) >= " " and "\x7f" not in n]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_command_knows_where_it_stands_byte_for_byte(inline: OAutom, name: str) -> None:
    flow = Flow(f"flow {name}", inline)
    BashExecution(
        f"step {name}",
        flow,
        'printf "%s|" "$OAUTOM_FLOW" "$OAUTOM_VECT" "$OAUTOM_STEP" "$OAUTOM_ATTEMPT"',
        env={"OAUTOM_STEP": "mine", "OAUTOM_VECT": "mine"},
        output="text",
    )
    vect = inline.run(flow, vect_id=f"vect {name}")

    assert vect.result(f"step {name}") == f"flow {name}|vect {name}|step {name}|1|"


def test_a_name_is_never_read_as_a_command(inline: OAutom, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    vect = bash(inline, "true", name=f"$(touch {trap}); touch {trap}")

    assert vect.state == "success"
    assert not trap.exists()


@pytest.mark.parametrize("kind", [str, Path])
def test_the_working_directory_can_be_given(inline: OAutom, tmp_path: Path, kind: Any) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()

    assert result(inline, "pwd -P", cwd=kind(folder)) == str(folder.resolve())
    assert Path.cwd() != folder


# How it fails


@pytest.mark.parametrize("code", [1, 2, 98, 126, 127, 128, 137, 143, 255])
def test_an_exit_code_is_a_failure_that_names_it(inline: OAutom, code: int) -> None:
    vect = bash(inline, f"exit {code}")

    assert vect.steps["a"].error == f"the command exited with code {code}"
    (failed,) = (event for event in vect.events() if event.name == "step.failed")
    assert failed.data["exit_code"] == code
    assert "signal" not in failed.data


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGUSR1"])
def test_an_end_by_a_signal_is_told_apart_from_one_by_a_code(inline: OAutom, name: str) -> None:
    vect = bash(inline, f"kill -{name} $$")

    assert vect.steps["a"].error == f"the command was ended by {name}"
    (failed,) = (event for event in vect.events() if event.name == "step.failed")
    assert failed.data["signal"] == name
    assert "exit_code" not in failed.data


def test_a_failure_shows_the_last_lines_that_it_wrote(inline: OAutom) -> None:
    told = error(inline, "for i in 1 2 3 4 5 6 7; do echo line $i; done >&2; exit 3")

    assert told == ("the command exited with code 3: line 3 | line 4 | line 5 | line 6 | line 7")


def test_an_unknown_command_says_what_bash_says(inline: OAutom) -> None:
    told = error(inline, "no-such-command-anywhere")

    assert told.startswith("the command exited with code 127: bash:")
    assert "no-such-command-anywhere: command not found" in told


def test_bad_syntax_says_what_bash_says(inline: OAutom) -> None:
    assert "syntax error" in error(inline, "if true; then")


def test_a_folder_that_is_none_is_named(inline: OAutom, tmp_path: Path) -> None:
    told = error(inline, "true", cwd=tmp_path / "nowhere")

    assert str(tmp_path / "nowhere") in told


def test_without_bash_the_step_says_so(inline: OAutom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert "'bash'" in error(inline, "true")


def test_the_result_of_a_failed_command_is_an_error_with_its_cause(inline: OAutom) -> None:
    vect = bash(inline, "echo no rows >&2; exit 3")

    with pytest.raises(StepFailedError) as caught:
        vect.result("a")
    assert str(caught.value) == (
        "step 'a' of flow 'flow 0' has no result, it ended as 'failed': "
        "the command exited with code 3: no rows"
    )
    assert str(caught.value.__cause__) == "the command exited with code 3: no rows"


def test_a_command_that_fails_harms_no_other(any_app: OAutom) -> None:
    flow = Flow("f", any_app)
    BashExecution("bad", flow, "kill -KILL $$")
    BashExecution("good", flow, "echo fine")

    vect = any_app.run(flow)

    assert vect.steps["bad"].state == "failed"
    assert vect.result("good") == "fine"
    assert runs_well(any_app)


def test_a_command_too_long_for_the_system_fails_its_step(any_app: OAutom) -> None:
    flow = Flow("f", any_app)
    BashExecution("a", flow, "true #" + "x" * 3_000_000)

    told = any_app.run(flow).steps["a"].error
    assert told is not None
    assert told.startswith("its command has 3000006 bytes, but the system allows fewer than 131072")
    assert runs_well(any_app)


def test_wrong_arguments_are_told_at_the_declaration(inline: OAutom) -> None:
    flow = Flow("f", inline)
    with pytest.raises(FlowError) as caught:
        BashExecution("a", flow, "true", output="lines")

    assert str(caught.value) == (
        "step 'a' of flow 'f': output must be one of 'last_line', 'text', 'json', not 'lines'"
    )
    assert runs_well(inline)
