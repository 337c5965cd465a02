"""`--json` of every verb prints what the schemas of docs/cli-json.md say, and nothing else."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from oautom import ApprovalExecution, BashExecution, Flow, OAutom, OAutomMode
from oautom.cli.main import oautom
from oautom.machine.tables import STEP_TABLE, VECT_STATES

from .conftest import ROOT, Cli, Inside, environment

PAGE = (ROOT / "docs" / "cli-json.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^## (.*?)\n.*?^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SCHEMAS: dict[str, Any] = {
    form: json.loads(schema)
    for heading, schema in SECTION.findall(PAGE)
    for form in re.findall(r"`(.*?)`", heading)
}
DATES = FormatChecker(formats=())


@DATES.checks("date-time", ValueError)
def is_date(text: object) -> bool:
    return not isinstance(text, str) or datetime.fromisoformat(text).tzinfo is not None


# Command lines for each form, in order, beside an engine; with the exit code where it is not 0.
LINES = {
    "run --dry-run": ["run pipeline.py etl day=1 --dry-run --until extract"],
    "simulate": ["simulate pipeline.py etl day=1 --fail load = 1"],
    "flows": ["flows pipeline.py"],
    "check": ["check pipeline.py", "check wrong.py = 2"],
    "graph": ["graph pipeline.py etl"],
    "ls": ["ls", "ls etl --state failed"],
    "show": ["show bad", "show gate", "show bad --at 10"],
    "watch": ["watch good", "watch bad = 1"],
    "why": ["why bad", "why gate ship"],
    "logs": ["logs bad", "logs good -n 1"],
    "logs -f": ["logs bad -f"],
    "events": ["events", "events good", "events --after 100000"],
    "events -f": ["events bad -f"],
    "inbox": ["inbox"],
    "plans": ["plans"],
    "top": ["top"],
    "diff": ["diff bad good", "diff gate good", "diff bad bad --exit-code"],
    "backfill --dry-run": ["backfill etl --from 2026-11-01 --to 2026-11-01 --dry-run"],
    "backfill": ["backfill etl --from 2026-11-01 --to 2026-11-01T03:00"],
    "approve": ["approve gate gate"],
    "reject": ["reject other gate --reason no"],
    "pause": ["pause third"],
    "resume": ["resume third"],
    "cancel": ["cancel third"],
    "retry": ["retry bad"],
    "start": ["start etl day=3"],
    "start --wait": ["start etl day=4 --wait", "start etl day=bad --wait = 1"],
    "verify": ["verify", "verify --log damaged.db = 8"],
    "prune": ["prune --older-than 0s --log old.db"],
    "prune --dry-run": ["prune --older-than 0s --dry-run --log old.db"],
    "export": ["export out.jsonl"],
    "export --to html": ["export out.html --to html", "export out.html bad --to html"],
}
WITH_PROCESS = {"run", "serve", "page"}  # tried below
WRONG = """
from oautom import *
app = OAutom()
flow = Flow("circle", app)
a, b = BashExecution("a", flow, "true"), BashExecution("b", flow, "true")
a.depends(b)
b.depends(a)
"""

LOUD = """
import os, signal
from oautom import *

app = OAutom()

def say():
    print("said loudly")
    os.kill(os.getpid(), signal.SIGTERM)

PythonExecution("say", Flow("loud", app), say)
BashExecution("do", Flow("quiet", app), "true")
"""


def declare(app: OAutom) -> None:
    etl = Flow("etl", app, params={"day": str}, max_active_vects=None)
    load = BashExecution("load", etl, 'test "$D" != bad', env={"D": etl.param("day")})
    BashExecution("extract", etl, "printf 'one\\ntwo'") >> load
    release = Flow("release", app, max_active_vects=None, version="3")
    ApprovalExecution("gate", release, "is it good?") >> BashExecution("ship", release, "true")
    app.plan(etl, hours=1, params={"day": "5"})


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OAutom]:
    """An engine at work on `runs.db`, and the files that the command lines name."""
    (tmp_path / "wrong.py").write_text(WRONG)
    for name in ("old.db", "damaged.db"):
        with OAutom(log=tmp_path / name) as old:
            declare(old)
            old.run("etl", {"day": "1"})
    data = (tmp_path / "damaged.db").read_bytes()
    (tmp_path / "damaged.db").write_bytes(data.replace(b'"output":null', b'"output":1234'))
    with OAutom(OAutomMode.background, log=tmp_path / "runs.db") as app:
        declare(app)
        app.run()
        for vect, day in (("good", "1"), ("bad", "bad")):
            app.start("etl", {"day": day}, vect_id=vect).wait(60)
        for vect in ("gate", "other", "third"):
            app.start("release", vect_id=vect)
        monkeypatch.setenv("OAUTOM_FILE", "runs.db")
        yield app


def valid(form: str, document: object) -> None:
    Draft202012Validator(SCHEMAS[form], format_checker=DATES).validate(document)


def test_each_verb_has_schemas_that_say_all_and_is_tried() -> None:
    assert {form.split()[0] for form in SCHEMAS} == set(oautom.commands)
    assert SCHEMAS.keys() == LINES.keys() | WITH_PROCESS
    for name, verb in oautom.commands.items():
        options = {each for param in verb.params for each in param.opts}
        assert "--json" in options, name
        if "--follow" in options:
            assert f"{name} -f" in SCHEMAS
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
        assert '{"type": "object", "properties"' not in json.dumps(schema)


def test_the_states_of_the_schema_are_those_of_the_engine() -> None:
    properties = SCHEMAS["show"]["properties"]
    assert set(properties["state"]["enum"]) == set(VECT_STATES)
    of_step = properties["executions"]["items"]["properties"]["state"]["enum"]
    assert set(of_step) == {row.dest for row in STEP_TABLE} | {row.source for row in STEP_TABLE}


def test_what_is_printed_fits(inside: Inside, engine: OAutom) -> None:
    for form, lines in LINES.items():
        for line in lines:
            words, _, code = line.partition(" = ")
            done = inside(*shlex.split(words), "--json")
            assert done.code == int(code or 0), (line, done)
            documents = done.stdout.splitlines() if form.endswith("-f") else [done.stdout]
            assert documents
            for document in documents:
                valid(form, json.loads(document))


@pytest.mark.parametrize(("day", "code"), [("1", 0), ("bad", 1)])
def test_a_run_prints_its_state_and_nothing_else(cli: Cli, day: str, code: int) -> None:
    done = cli("run", "pipeline.py", "etl", f"day={day}", "--json")
    assert (done.returncode, "extracting" in done.stderr) == (code, True)
    valid("run", json.loads(done.stdout))


def test_serve_tells_what_it_serves_and_prints_nothing_else(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    assert cli("run", "loud.py", "quiet", "-q", "--log", "runs.db").returncode == 0
    assert cli("start", "loud", "--queue", "--log", "runs.db").returncode == 0
    done = cli("serve", "loud.py", "--json", "--log", "runs.db")
    assert done.returncode == 0, done.stderr
    assert "said loudly" in done.stderr
    document = json.loads(done.stdout)
    valid("serve", document)
    assert document["flows"] == ["loud", "quiet"]


def test_page_tells_where_it_is(cli: Cli, tmp_path: Path) -> None:
    assert cli("run", "pipeline.py", "etl", "day=1", "-q", "--log", "runs.db").returncode == 0
    command = ["oautom", "page", "--log", "runs.db", "--port", "0", "--steer", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=tmp_path, text=True, env=environment(tmp_path)
    ) as server:
        assert server.stdout is not None
        told = ""
        for line in server.stdout:
            told += line
            if line == "}\n":
                break
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) in (0, -signal.SIGTERM)
    document = json.loads(told)
    valid("page", document)
    assert document["address"].endswith(f"/?token={document['token']}")
