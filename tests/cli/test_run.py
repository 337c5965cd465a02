"""`oautom run` and the others: what they print, where, and how they exit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import SECONDS, Cli, Inside, environment


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "pipeline.py:app", "etl", "day=bad", "numbers=[1]"], 1, ""),
        (["run", "pipeline.py", "etl"], 2, "'day'"),
        (["run", "pipeline.py", "etl", "day"], 2, "'day' is no parameter; write name=value"),
        (["run", "pipeline.py", "etl", "day=1", "day=2"], 2, "'day' is given twice"),
        (["run", "pipeline.py", "etl", "day=1", "numbers=[1"], 2, "'numbers' is no JSON"),
        (["run", "pipeline.py", "etl", "day=1", f"numbers={'[' * 9000}"], 2, "is no JSON"),
        (["run", "pipeline.py", "etl", "day=1", "numbers={}"], 2, "'numbers' must be"),
        (["run", "pipeline.py", "etl", "day=1", "--workers", "0"], 2, "max_workers"),
        (["run", "pipeline.py", "elt"], 3, "did you mean 'etl'?"),
        (["run", "pipelin.py", "etl"], 3, "did you mean 'pipeline.py'?"),
        (["run", "pipeline.py:ap", "etl"], 3, "did you mean 'app'?"),
        (["run", "pipeline.py:etl", "etl"], 2, "is no OAutom but of type Flow"),
        (["run", "pipeline.py:extract", "etl"], 3, "cannot be called without arguments"),
        (["run", "pipeline", "etl", "--dry-run"], 2, "'day'"),
        (["run", "nothing.there", "etl"], 3, "there is no module 'nothing.there'"),
        (["run", ":app", "etl"], 2, "write package.module:app or file.py:app"),
        (["run", "broken.py", "etl"], 3, "ZeroDivisionError: division by zero"),
        (["run", "empty.py", "etl"], 3, "has no OAutom"),
        (["run", "pipeline.py", "etl", "day=1", "--log", "text.db"], 8, "text.db"),
        (["rum"], 2, "Did you mean 'run'?"),
        (["serve", "pipeline.py:make"], 2, "foreground mode"),
        (["simulate", "pipeline.py", "etl", "day=1", "--fail", "lod"], 3, "did you mean 'load'?"),
        (["simulate", "pipeline.py", "etl", "day=1", "--take", "load"], 2, "STEP=SECONDS"),
        (["simulate", "pipeline.py", "etl", "day=1", "--like", "x", "--log", "x.db"], 3, "x.db"),
        (["graph", "pipeline.py", "etl", "--format", "png"], 2, "png"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_a_mistake_is_told_in_a_sentence_and_an_exit_code(
    inside: Inside, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "text.db").write_text("this is no log " * 100)
    done = inside(*arguments)
    assert (done.code, "Traceback" in done.stderr) == (code, False), done.stderr
    assert said in done.stderr


def test_debug_shows_the_traceback(cli: Cli) -> None:
    done = cli("--debug", "run", "pipeline.py", "elt")
    assert (done.returncode, "Traceback" in done.stderr) == (3, True)


def test_json_is_one_document_though_steps_print(cli: Cli) -> None:
    done = cli("run", "pipeline.py", "etl", "day=1", "--id", "one", "--json")
    status = json.loads(done.stdout)
    assert (status["id"], status["state"], done.returncode) == ("one", "success", 0)
    assert "extracting 1" in done.stderr


def test_a_run_in_a_file_is_the_same_run_when_it_is_run_again(cli: Cli) -> None:
    arguments = ("run", "pipeline.py", "etl", "day=1", "--id", "one", "--log", "runs.db")
    first, second = cli(*arguments), cli(*arguments)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "extracting" in first.stdout  # print() writes it in pieces, and ours come between
    assert "extracting" not in second.stdout
    assert "etl one: success" in second.stdout


def test_the_time_is_up(cli: Cli) -> None:
    done = cli("run", "pipeline.py", "slow", "--timeout", "0.2", "--log", "runs.db")
    assert done.returncode == 5
    assert "it goes on when it is run again with this --id" in done.stderr


def test_what_makes_an_app_is_called(cli: Cli) -> None:
    done = cli("run", "pipeline.py:make", "made", "-q")
    assert (done.returncode, done.stdout) == (0, "\n")  # what the step itself prints


def test_flows_check_and_graph_as_json_and_for_tools(cli: Cli) -> None:
    flows = json.loads(cli("flows", "pipeline.py", "--json").stdout)
    assert [flow["name"] for flow in flows] == ["etl", "slow"]
    assert flows[0]["params"]["day"] == {"type": "str", "required": True}
    assert json.loads(cli("check", "pipeline.py", "etl", "--json").stdout) == [
        {"flow": "etl", "error": None, "secrets": [], "missing_secrets": []}
    ]
    assert cli("graph", "pipeline.py", "etl", "--format", "dot").stdout.startswith("digraph")
    assert cli("graph", "pipeline.py", "etl", "--format", "mermaid").stdout.startswith("flowchart")


def test_a_flow_that_is_declared_wrongly_is_told_by_check(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "circle.py").write_text(
        "from oautom import *\napp = OAutom()\nflow = Flow('circle', app)\n"
        "a, b = BashExecution('a', flow, 'true'), BashExecution('b', flow, 'true')\n"
        "a.depends(b)\nb.depends(a)\n"
    )
    done = cli("check", "circle.py")
    assert done.returncode == 2
    assert "circle: flow 'circle' has a cycle" in done.stdout


def test_who_reads_no_further_is_no_bug(tmp_path: Path, cli: Cli) -> None:
    done = subprocess.run(
        ["bash", "-c", "oautom flows pipeline.py | true; echo ${PIPESTATUS[0]}"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.stdout.strip() in ("0", "141")  # it may have written before `true` has ended
    assert done.stderr == ""


def test_an_import_of_oautom_brings_in_none_of_it_and_the_version_not_even_that() -> None:
    code = "import oautom, sys; assert not {'click', 'rich', 'oautom.cli'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=SECONDS)
    assert done.returncode == 0
    code = (
        "import sys; sys.argv = ['oautom', '--version']; import _oautom_cli; _oautom_cli.main(); "
        "assert not {'oautom', 'click', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=SECONDS)
    assert done.returncode == 0
